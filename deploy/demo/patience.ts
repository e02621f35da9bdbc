/** How much longer than usual to wait for everything: an emulated machine is some thirty times slower. CORDON_DEMO_PATIENCE, 1 to 100. */
const factor = Number(process.env['CORDON_DEMO_PATIENCE'] ?? 1)

export function patient(ms: number): number {
  return ms * (Number.isFinite(factor) ? Math.min(100, Math.max(1, factor)) : 1)
}
