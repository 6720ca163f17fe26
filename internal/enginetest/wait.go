package enginetest

import (
	"testing"
	"time"
)

const (
	// patience is generous: the machine may be busy with other tests.
	patience = 3 * time.Minute

	poll = 20 * time.Millisecond
)

// Eventually waits until ok says yes. After three minutes the test fails.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("still waiting after %s: %s", patience, what)
		case <-tick.C:
		}
	}
}
