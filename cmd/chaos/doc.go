// Package chaos is postraft's proving ground: five genuine agents under load while their processes, network,
// disks and clocks fail, by a schedule that a seed decides, and checks that nothing promised was broken.
//
// Each agent lives in a network and mount namespace of its own. Its packets leave through a TUN device and
// are switched by the test, which drops, delays and reorders them by directed link. Its data directory is a
// FUSE file system served by the test, which makes writes and fsyncs fail, wait or hang, and forgets what was
// not fsynced when the power is cut. Its clock is the test's to set. That needs root, /dev/net/tun and
// /dev/fuse; without them the agents run on loopback and plain directories, and the test says what it leaves
// out.
//
// # Invariants
//
//	I1   no acknowledged write is lost
//	I2   reads and writes of a key through the leader are linearizable
//	I3   tables of equal version have equal digests on all nodes
//	I4   local reads on a node never go back in time, not across its restarts either
//	I5   a node shows at once what was written through it
//	I6   a key that was always there is never "not found"
//	I7   every request is answered within its time
//	I8   an import is seen whole or not at all
//	I9   a snapshot is the state at its index
//	I10  a write happens at most once; one that was refused never
//	I11  the configuration is sane: no more voters than asked for, no name twice, a majority alive
//	I13  when a fault has passed, the cluster heals by itself
//
// # Running it
//
//	make chaos DURATION=1h SEED=7
//
// and a run of 90 s is part of the tests. A violation ends the run with the invariant, the operations around
// it, the seed and the steps so far; the agents' logs stay in the directory that is printed. The seed
// decides the steps and their lengths; what is under way when a step begins is up to the machine.
//
// The environment has the settings: CHAOS_DURATION, CHAOS_SEED, CHAOS_FAULTS (a comma list of faults to choose
// from; forgetful-sync comes only when it is named), CHAOS_RACE=1 (agents with the race detector),
// CHAOS_CLOCK=0 (no clock faults, and no build of the standard library for them), CHAOS_KEEP=1 (logs stay in
// any case), CHAOS_BINARY (an agent that was built before).
package chaos
