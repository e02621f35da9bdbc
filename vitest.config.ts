import { defineConfig } from 'vitest/config'

// One project per layer (`vitest run --project unit`). A layer that works on the machine itself runs one file at a time:
// its tests count what is left over, and a VM wants both cores.
const layers = {
  kernel: ['test/kernel/**/*.test.ts', 'test/e2e/**/*.test.ts'],
  vm: ['test/vm/**/*.test.ts'],
  browser: ['test/browser/**/*.test.ts'],
}

// A busy machine is slow, not wrong: what should happen gets long enough, and tests that promise a time say it themselves.
const patience = { testTimeout: 120_000, expect: { poll: { timeout: 30_000 } } }

const onTheMachine = (name: keyof typeof layers, order: number) => ({
  test: {
    name,
    include: layers[name],
    fileParallelism: false,
    ...patience,
    testTimeout: 300_000,
    hookTimeout: 1_200_000, // a VM boots and runs its whole script in one hook
    sequence: { groupOrder: order },
  },
})

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: Object.values(layers).flat(),
          ...patience,
          hookTimeout: 120_000,
          sequence: { groupOrder: 0 },
        },
      },
      onTheMachine('kernel', 1),
      onTheMachine('vm', 2),
      onTheMachine('browser', 3),
    ],
  },
})
