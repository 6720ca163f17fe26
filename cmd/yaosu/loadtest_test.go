package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"yaosu/detect"
	"yaosu/internal/enginetest"
)

// The stack has no detectors, as most scripts need none; these look often.
func TestLoadtestComparesSuspectsWithWhatIsPlanted(t *testing.T) {
	natsURL, dsn := startStack(t, "http")
	conn := enginetest.Open(t, dsn)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1) // it may end when nobody waits yet
	go func() { ended <- detect.Run(ctx, detect.Config{Conn: conn, Every: 500 * time.Millisecond}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the detectors ended with %v, want nil", err)
		}
	})
	key := filepath.Join(t.TempDir(), "person.key")
	// That of startStack.
	if err := os.WriteFile(key, []byte(strings.Repeat("6b", 32)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs strings.Builder
	got := run(t.Context(), []string{
		"yaosu", "loadtest", "--nats", natsURL, "--clickhouse", dsn, "--person-key", key,
		"--events", "10000", "--seed", "300", "--detect", "--deadline", "6m",
	}, strings.NewReader(""), &out, &errs)
	if got != exitDone || !strings.Contains(out.String(), "found and no other") {
		t.Errorf("got status %d, output\n%s%s\nwant all suspects found and no other", got, out.String(), errs.String())
	}
}
