package enginetest

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// patience is generous: the machine may be busy with other tests.
	patience = 3 * time.Minute

	poll = 20 * time.Millisecond
)

// Reconnected waits until the server answers over nc again. A connection counts as
// connected until it has noticed that its server is gone, and what is sent in
// between is lost.
func Reconnected(t testing.TB, nc *nats.Conn) {
	t.Helper()
	Eventually(t, "the connection is back", func() bool { return nc.FlushTimeout(time.Second) == nil })
}

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
