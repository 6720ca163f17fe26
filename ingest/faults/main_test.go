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

// passes waits for d, where time itself is what a case is about.
func passes(d time.Duration) { <-time.After(d) }
