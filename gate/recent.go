package gate

import (
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// recentSlots is how many events are remembered, at most: 8 MiB.
const recentSlots = 1 << 20

// recent remembers what was acknowledged lately, by hashes: each takes the place
// of another one sooner or later. It forgets, and once in a very long while it
// takes one event for another; nothing but the word "duplicate" depends on it.
type recent struct{ slots []atomic.Uint64 }

func newRecent() *recent { return &recent{slots: make([]atomic.Uint64, recentSlots)} }

// print is the hash of an event. Its bytes hold its org and its id.
func print(raw []byte) uint64 { return xxhash.Sum64(raw) }

func (r *recent) has(print uint64) bool { return r.slots[print%recentSlots].Load() == print }

func (r *recent) add(print uint64) { r.slots[print%recentSlots].Store(print) }
