package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/urfave/cli/v3"

	"yaosu/gate"
	"yaosu/ingest"
	"yaosu/internal/enginetest"
	"yaosu/local"
	"yaosu/schema"
)

// The test binary is also the program, under the name yaosu, and the engine that
// the program starts.
func TestMain(m *testing.M) {
	local.MaybeEngineChild()
	testscript.Main(tests{m}, map[string]func(){"yaosu": func() { os.Exit(yaosu()) }})
}

type tests struct{ m *testing.M }

func (t tests) Run() int { return enginetest.Run(t.m) }

// Scripts that need nothing but the program.
func TestCommandLine(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		Cmds:                statuses(),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// Scripts that find a broker, an engine and an ingester at YAOSU_NATS and
// YAOSU_CLICKHOUSE, once over each transport of ClickHouse.
func TestStack(t *testing.T) {
	scripts, err := filepath.Glob(filepath.Join("testdata", "stack", "*.txtar"))
	if err != nil || len(scripts) == 0 {
		t.Fatalf("scripts: got %d, %v, want some", len(scripts), err)
	}
	for _, transport := range []string{"native", "http"} {
		t.Run(transport, func(t *testing.T) {
			for _, script := range scripts {
				natsURL, dsn := startStack(t, transport)
				door := startDoor(t, natsURL)
				testscript.Run(t, testscript.Params{
					Files:               []string{script},
					Cmds:                statuses(),
					RequireExplicitExec: true,
					RequireUniqueNames:  true,
					Setup: func(env *testscript.Env) error {
						env.Setenv("YAOSU_NATS", natsURL)
						env.Setenv("YAOSU_CLICKHOUSE", dsn)
						env.Setenv("DOOR", door)
						return nil
					},
				})
			}
		})
	}
}

// statuses are the script commands `fails` and `wrong`: exec that must end with
// status 1 or 2 and say why in a last line that begins with yaosu.
func statuses() map[string]func(*testscript.TestScript, bool, []string) {
	must := func(want int) func(*testscript.TestScript, bool, []string) {
		return func(ts *testscript.TestScript, _ bool, args []string) {
			err := ts.Exec(args[0], args[1:]...)
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != want {
				ts.Fatalf("%s: got %v, want exit status %d", strings.Join(args, " "), err, want)
			}
			lines := strings.Split(strings.TrimSuffix(ts.ReadFile("stderr"), "\n"), "\n")
			if last := lines[len(lines)-1]; !strings.HasPrefix(last, "yaosu: ") {
				ts.Fatalf("%s: got last line %q on standard error, want one that begins with yaosu:", strings.Join(args, " "), last)
			}
			if want == exitUsage && len(lines) != 1 {
				ts.Fatalf("%s: got %d lines on standard error, want 1", strings.Join(args, " "), len(lines))
			}
		}
	}
	return map[string]func(*testscript.TestScript, bool, []string){"fails": must(exitFailed), "wrong": must(exitUsage)}
}

// startStack runs everything but the detectors until the test ends.
func startStack(t *testing.T, transport string) (natsURL, dsn string) {
	t.Helper()
	dsn = enginetest.Database(t, transport)
	db := enginetest.Schema(t, dsn)
	broker := enginetest.Broker(t)
	conn, err := nats.Connect(broker.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.EnsureStreams(t.Context(), js, 1); err != nil {
		t.Fatal(err)
	}
	key, err := schema.NewPersonKey([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1) // the ingester may end when nobody waits yet
	go func() {
		done <- ingest.Run(ctx, ingest.Config{JS: js, Conn: db, Key: key, MaxAge: 10 * time.Millisecond})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the ingester ended with %v, want nil", err)
		}
	})
	return broker.URL(), dsn
}

// startDoor opens a door to the NATS of a stack until the test ends.
func startDoor(t *testing.T, natsURL string) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sink := gate.NewJetStreamSink(enginetest.JetStream(t, natsURL))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1) // it may end when nobody waits yet
	go func() { done <- gate.Run(ctx, gate.Config{Listener: listener, Sink: sink, Refused: sink}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the door ended with %v, want nil", err)
		}
	})
	return "http://" + listener.Addr().String()
}

func TestEveryVerbTeachesAndEveryFlagHasATwin(t *testing.T) {
	var inside bool
	app := application(&inside)
	twins := map[string]bool{}
	err := app.Walk(func(cmd *cli.Command) error {
		if len(cmd.Commands) == 0 {
			if cmd.Usage == "" || !strings.Contains(cmd.Description, "Example") {
				t.Errorf("%s: got usage %q and no example, want both", cmd.Name, cmd.Usage)
			}
		}
		for _, flag := range cmd.Flags {
			doc, ok := flag.(cli.DocGenerationFlag)
			if !ok {
				return errors.New("a flag without documentation")
			}
			if got, want := strings.Join(doc.GetEnvVars(), " "), twin(flag.Names()[0]); got != want {
				t.Errorf("%s --%s: got twin %q, want %q", cmd.Name, flag.Names()[0], got, want)
			}
			if doc.GetUsage() == "" {
				t.Errorf("%s --%s: got no usage, want some", cmd.Name, flag.Names()[0])
			}
			twins[twin(flag.Names()[0])] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"YAOSU_NATS", "YAOSU_CLICKHOUSE", "YAOSU_PERSON_KEY", "YAOSU_LOG_FORMAT"} {
		if !twins[want] {
			t.Errorf("no flag has the twin %s", want)
		}
	}
}

func TestSince(t *testing.T) {
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, schema.Shanghai)
	for _, c := range []struct{ name, since, want string }{
		{"a time with offset", "2026-03-01T08:00:00Z", "2026-03-01T16:00:00+08:00"},
		{"a date begins in Shanghai", "2026-03-01", "2026-03-01T00:00:00+08:00"},
		{"a minute in Shanghai", "2026-03-01 07:30", "2026-03-01T07:30:00+08:00"},
		{"hours ago", "24h", "2026-03-09T12:00:00+08:00"},
		{"days ago", "7d", "2026-03-03T12:00:00+08:00"},
		{"days and hours ago", "1d12h", "2026-03-09T00:00:00+08:00"},
		{"a word is refused", "yesterday", ""},
		{"the future is refused", "-24h", ""},
		{"an empty number of days is refused", "d", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseSince(c.since, now)
			if c.want == "" {
				if _, usage := err.(usageError); !usage {
					t.Errorf("got %v, %v, want a usage error", got, err)
				}
				return
			}
			if s := got.In(schema.Shanghai).Format(time.RFC3339); err != nil || s != c.want {
				t.Errorf("got %s, %v, want %s", s, err, c.want)
			}
		})
	}
}
