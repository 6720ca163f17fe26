package faults_test

import (
	"flag"
	"os"
	"testing"
	"time"

	"yaosu/internal/enginetest"
	"yaosu/internal/proc"
)

var (
	chaosTime = flag.Duration("chaos", 15*time.Second, "how long TestChaos breaks things")
	chaosSeed = flag.Uint64("seed", 0, "what TestChaos draws from; 0 takes one by the clock")
)

func TestMain(m *testing.M) {
	proc.MaybeChild()
	flag.Parse()
	os.Exit(enginetest.Run(m))
}

// patience is generous: the machine may be busy with other tests.
const patience = 3 * time.Minute

// eventually waits until ok says yes.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("still waiting after %s: %s", patience, what)
		case <-tick.C:
		}
	}
}

// passes waits for d, where time itself is what a case is about.
func passes(d time.Duration) { <-time.After(d) }
