package local_test

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"yaosu/local"
)

func TestMain(m *testing.M) {
	local.MaybeEngineChild()
	maybeParent()
	os.Exit(m.Run())
}

// startTimeout is generous: the machine may be busy with other tests.
const startTimeout = 2 * time.Minute

func startEngine(t *testing.T, cfg local.EngineConfig) *local.Engine {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	if cfg.Log == nil {
		cfg.Log = testLog(t)
	}
	if cfg.MemoryLimit == 0 {
		cfg.MemoryLimit = 1 << 30
	}
	e, err := local.StartEngine(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("close the engine: %v", err)
		}
	})
	return e
}

func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}
