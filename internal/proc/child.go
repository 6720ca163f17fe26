package proc

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"yaosu/local"
)

const (
	kindEnv   = "YAOSU_TEST_CHILD"
	configEnv = "YAOSU_TEST_CHILD_CONFIG"

	kindBroker   = "broker"
	kindIngester = "ingester"
)

// MaybeChild turns this process into what its parent wants of it, the engine
// included, and then never returns; otherwise it does nothing. TestMain calls it
// first of all.
func MaybeChild() {
	local.MaybeEngineChild()
	kind := os.Getenv(kindEnv)
	if kind == "" {
		return
	}
	// What this child may start itself is no child of ours.
	os.Unsetenv(kindEnv)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var err error
	switch config := []byte(os.Getenv(configEnv)); kind {
	case kindBroker:
		err = brokerChild(ctx, config)
	case kindIngester:
		err = ingesterChild(ctx, config)
	default:
		err = fmt.Errorf("no child is called %q", kind)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s child: %v\n", kind, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// answer says hello on standard output, and then replies to each line of
// standard input. Its end is the end of the parent, and so ours.
func answer(hello any, reply func() any) error {
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(hello); err != nil {
		return err
	}
	go func() {
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			if err := out.Encode(reply()); err != nil {
				break
			}
		}
		os.Exit(1)
	}()
	return nil
}

// childLog is what a child logs to: standard error, with its process id, as one
// test reads many of them.
func childLog(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})).With("pid", os.Getpid())
}
