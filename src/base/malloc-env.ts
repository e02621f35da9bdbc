/**
 * How glibc keeps memory in our long-lived Node processes (mallopt(3), "Environment variables"). V8 compiles in short bursts (one
 * WebAssembly function of the HTTP parser takes 25 MiB for a moment), on several threads; by default each thread has an arena of its
 * own that keeps what it once had, and freed blocks raise the size from which memory is given back. One arena, given back from 128 KiB
 * on, is 24 MiB less for launcher and gateway with ten plugins. Neither allocates enough from several threads at once to wait for the other.
 */
export const MALLOC_ENV = { MALLOC_ARENA_MAX: '1', MALLOC_TRIM_THRESHOLD_: '131072' } as const
