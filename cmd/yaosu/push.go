package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/urfave/cli/v3"

	"yaosu/ingest"
	"yaosu/loadtest"
	"yaosu/schema"
)

func pushCommand() *cli.Command {
	return &cli.Command{
		Name:  "push",
		Usage: "posts made-up scans to the HTTP door, measures it, and audits the table",
		Description: "The same scans as those of `yaosu loadtest`, in requests of one institution each. --clients are\n" +
			"connected all the time, of which --active post, each as fast as it is answered; the others ask\n" +
			"once a minute whether the door lives. An event counts when it is answered, which is after NATS\n" +
			"acknowledged it. When all are stored the table is compared with what was sent, as by `yaosu\n" +
			"loadtest`. Only a door of this machine is taken.\n\n" +
			"The exit status is 0 when the audit is right, and goal, deadline and --door-memory were kept.\n\n" +
			"Examples:\n" +
			"  yaosu loadtest push --goal 20000/s\n" +
			"  yaosu loadtest push --events 20000 --per-request 1 --clients 1000 --active 200",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "http", Usage: "`URL` of the door, http://host:port (default: the system that runs in --data)"},
			&cli.StringFlag{Name: "token", Usage: "`TOKEN` of a credential for the made-up institutions, where the door is not open"},
			&cli.IntFlag{Name: "events", Usage: "how many events `N` are sent", Value: 400_000, Validator: atLeastOne},
			&cli.IntFlag{Name: "per-request", Usage: "how many events `M` share a request", Value: 50, Validator: atLeastOne},
			&cli.IntFlag{Name: "clients", Usage: "how many clients `N` are connected", Value: 5000, Validator: atLeastOne},
			&cli.IntFlag{Name: "active", Usage: "how many `N` of them post", Value: 48, Validator: atLeastOne},
			&cli.FloatFlag{Name: "bad", Usage: "`SHARE` of events, 0 to 0.5, that break the contract and must be refused"},
			&cli.StringFlag{Name: "goal", Usage: "least `RATE`, such as 20000/s, from the first post to the last answer; else the exit status is 1"},
			&cli.IntFlag{Name: "door-memory", Usage: "most `MB` that the door's process may take at any time; else the exit status is 1"},
			&cli.DurationFlag{Name: "deadline", Usage: "longest `TIME` until all are stored", Value: 5 * time.Minute},
			&cli.IntFlag{Name: "seed", Usage: "`S`, 0 to 99999: the same seed sends the same events (default: chosen and printed)", Value: -1, HideDefault: true},
		},
		Action: runPush,
	}
}

func runPush(ctx context.Context, cmd *cli.Command) error {
	if err := noArguments(cmd); err != nil {
		return err
	}
	goal, err := perSecond("goal", cmd.String("goal"))
	if err != nil {
		return err
	}
	bad, clients, active := cmd.Float("bad"), cmd.Int("clients"), cmd.Int("active")
	switch {
	case !(bad >= 0 && bad <= 0.5):
		return usageErrorf("--bad %v: want a share from 0 to 0.5", bad)
	case cmd.Int("seed") >= loadtest.Towns:
		return usageErrorf("--seed %d: want 0 to %d", cmd.Int("seed"), loadtest.Towns-1)
	case active > clients:
		return usageErrorf("--active %d: only %d are connected (--clients)", active, clients)
	}
	door, err := findAddress(cmd, "http", func(e endpoints) string { return e.HTTP })
	if err != nil {
		return err
	}
	if err := onThisMachine(door); err != nil {
		return err
	}
	js, err := openJetStream(ctx, cmd)
	if err != nil {
		return err
	}
	defer js.Conn().Close()
	if err := mustBeOpen(ctx, js, newLog(cmd)); err != nil {
		return err
	}
	conn, err := openClickHouse(ctx, cmd)
	if err != nil {
		return err
	}
	defer conn.Close()
	traffic, err := freshTraffic(ctx, conn, loadtest.TrafficConfig{
		Events: cmd.Int("events"),
		Bad:    bad,
		Text:   true,
		Repeat: loadRepeat,
		Reuse:  loadReuse,
	}, cmd.Int("seed"))
	if err != nil {
		return err
	}
	process := loadtest.Listener("door", door.url)
	if cmd.String("http") == "" {
		process.Role = "yaosu up (door, NATS, ingester …)"
	}
	connected := process
	screen := terminal(cmd)
	bar := newCountBar(screen, cmd.Int("events"))
	report, failed := loadtest.Push(ctx, loadtest.PushConfig{
		URL:        door.url,
		Token:      cmd.String("token"),
		Traffic:    traffic,
		PerRequest: cmd.Int("per-request"),
		Clients:    clients,
		Active:     active,
		Last:       func(ctx context.Context) (uint64, error) { return lastSequence(ctx, js) },
		StoredUpTo: func(ctx context.Context) (uint64, error) { return ingest.StoredUpTo(ctx, js, "") },
		Conn:       conn,
		Deadline:   cmd.Duration("deadline"),
		Pushed:     func(events int) { _ = bar.Set(min(events, cmd.Int("events"))) }, // only the look of it can fail
		Peak:       func() { connected.Measure() },
	})
	finish(bar)
	process.Measure()
	printPush(cmd.Root().Writer, goal, active, report, connected)
	switch most := int64(cmd.Int("door-memory")) * 1e6; {
	case failed != nil:
		return failed
	case report.Rate() < goal:
		return fmt.Errorf("the goal of %.0f events/s was missed: %.0f/s", goal, report.Rate())
	case most > 0 && process.Pid == 0:
		return fmt.Errorf("the memory of the door is not known: %s", process.Why)
	case most > 0 && process.Peak > most:
		return fmt.Errorf("the door took %s, more than %s", megabytes(process.Peak), megabytes(most))
	}
	return nil
}

// lastSequence is that of the newest message of SCANS.
func lastSequence(ctx context.Context, js jetstream.JetStream) (uint64, error) {
	stream, err := js.Stream(ctx, schema.StreamScans)
	if err != nil {
		return 0, fmt.Errorf("look at stream %s: %w", schema.StreamScans, err)
	}
	return stream.CachedInfo().State.LastSeq, nil
}

func printPush(out io.Writer, goal float64, active int, r *loadtest.PushReport, door loadtest.Process) {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(out, "%-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	truth := r.Truth
	if len(truth.Towns) > 0 {
		line("traffic", "seed %d: %d events; %d distinct, %d sent again, %d bad; %d requests of %s",
			truth.Towns[0].Number, truth.Events, truth.Distinct, truth.Repeats, truth.Bad(), r.Requests, megabytes(r.Bytes))
	}
	line("clients", "%d connected, %d of them post", r.Connected, active)
	if r.Pushing > 0 {
		line("answered", "all, in %s: %.0f events/s (goal %.0f); accepted %d, duplicate %d, rejected %d; %d requests made again",
			seconds(r.Pushing), r.Rate(), goal, r.Accepted, r.Duplicate, r.Rejected, r.Again)
		line("", "p50 %s, p99 %s, longest %s, from request to answer", milliseconds(r.P50), milliseconds(r.P99), milliseconds(r.Longest))
	}
	if r.Storing > 0 {
		line("stored", "all, %s after the first was posted", seconds(r.Storing))
	}
	if door.Pid == 0 {
		line("memory", "%s: not known, %s", door.Role, door.Why)
	} else {
		line("memory", "%s: %s with all connected, %s at most (process %d)", door.Role, megabytes(door.RSS), megabytes(door.Peak), door.Pid)
	}
	if r.Audited {
		s := r.Stored
		line("audit", "%d events in %d rows of the view; %d rejects", s.Events, s.Rows, sum(s.Rejected))
	}
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
}
