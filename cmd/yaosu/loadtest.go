package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v3"

	"yaosu/detect"
	"yaosu/gate/sender"
	"yaosu/ingest"
	"yaosu/loadtest"
	"yaosu/schema"
)

const (
	// Of all events so many are sent again at once, or have the id of another.
	loadRepeat = 0.01
	loadReuse  = 0.001

	// seedTries is how many seeds are tried before one is asked for.
	seedTries = 100

	// suspectsPoll is how often --detect looks what the detectors found.
	suspectsPoll = time.Second

	// shownSuspects are told of those that are missing or too many.
	shownSuspects = 10
)

func loadtestCommand() *cli.Command {
	return &cli.Command{
		Name:  "loadtest",
		Usage: "sends made-up scans to a running system, measures it, and audits the table",
		Description: "The scans are honest trade of made-up towns with planted fraud, resent and reused events among\n" +
			"it; the seed decides them, and everything about them is known beforehand. They are published,\n" +
			"and when all are stored the table is compared with what was sent: nothing lost, nothing double,\n" +
			"no row changed, every bad event refused with the right code. They stay in the table, in\n" +
			"institutions whose names end with -T and five digits: do not use the database of real work.\n" +
			"A system must be running: start one with `yaosu up --data DIR` and name it with --data DIR, or\n" +
			"give --nats and --clickhouse. Only a system of this machine is taken, unless --allow-remote.\n\n" +
			"Printed are the rates of publishing and storing, the lag (from handing a message to the\n" +
			"publisher until a query finds an event of it: about ten messages a second are looked for, up\n" +
			"to twenty times a second), the memory of each process, and the audit.\n\n" +
			"The exit status is 0 when the audit is right and goal and deadline were kept, else 1.\n\n" +
			"Examples:\n" +
			"  yaosu loadtest --events 1000000 --goal 100000/s\n" +
			"  yaosu loadtest --events 60000 --rate 1000/s --events-per-message 50\n" +
			"  yaosu loadtest --events 5000000 --format arrow --bad 0.00001\n" +
			"  yaosu loadtest --events 100000 --detect\n" +
			"  yaosu loadtest push --goal 20000/s",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "events", Usage: "how many events `N` are sent", Value: 100_000, Validator: atLeastOne},
			&cli.StringFlag{Name: "rate", Usage: "`RATE`, events a second, at which they are published, such as 1000/s (default: as fast as NATS takes them)"},
			&cli.StringFlag{Name: "format", Usage: "`FORMAT` of the messages: json or arrow", Value: string(loadtest.JSON), Validator: oneOf(string(loadtest.JSON), string(loadtest.Arrow))},
			&cli.IntFlag{Name: "events-per-message", Usage: "how many events `M` share a message (default: 500 with json, 10000 with arrow)", HideDefault: true},
			&cli.IntFlag{Name: "batch", Usage: "how many messages `N` NATS stores by one acknowledgement; more than 1 helps with small messages and --nats-sync always", Value: 1, Validator: atLeastOne},
			&cli.StringFlag{Name: "goal", Usage: "least `RATE`, such as 100000/s, from the first publish until all are stored; else the exit status is 1"},
			&cli.DurationFlag{Name: "deadline", Usage: "longest `TIME` until all are stored; with --detect again as long for the suspects", Value: 5 * time.Minute},
			&cli.IntFlag{Name: "seed", Usage: "`S`, 0 to 99999: the same seed sends the same events. The table must not hold them yet (default: chosen and printed)", Value: -1, HideDefault: true},
			&cli.FloatFlag{Name: "bad", Usage: "`SHARE` of events, 0 to 0.5, that break the contract and must be refused"},
			&cli.BoolFlag{Name: "detect", Usage: "end with whole towns, load their reference data, wait for the detectors and compare the suspects with what there is to find"},
			&cli.BoolFlag{Name: "allow-remote", Usage: "send to a system that is not on this machine too"},
		},
		Commands: []*cli.Command{pushCommand(), loadtestCheckCommand()},
		Action:   runLoadtest,
	}
}

// loadFlags are the flags of loadtest that need a look.
type loadFlags struct {
	rate, goal float64
	traffic    loadtest.TrafficConfig
	format     loadtest.Format
	perMessage int
}

func readLoadFlags(cmd *cli.Command) (f loadFlags, err error) {
	if err := noArguments(cmd); err != nil {
		return f, err
	}
	if f.rate, err = perSecond("rate", cmd.String("rate")); err != nil {
		return f, err
	}
	if f.goal, err = perSecond("goal", cmd.String("goal")); err != nil {
		return f, err
	}
	f.format = loadtest.Format(cmd.String("format"))
	if f.perMessage = cmd.Int("events-per-message"); f.perMessage <= 0 {
		f.perMessage = f.format.PerMessage()
	}
	bad, seed := cmd.Float("bad"), cmd.Int("seed")
	switch {
	case f.rate > 0 && f.goal > f.rate:
		return f, usageErrorf("--goal %s cannot be reached at --rate %s", cmd.String("goal"), cmd.String("rate"))
	case !(bad >= 0 && bad <= 0.5):
		return f, usageErrorf("--bad %v: want a share from 0 to 0.5", bad)
	case seed >= loadtest.Towns:
		return f, usageErrorf("--seed %d: want 0 to %d", seed, loadtest.Towns-1)
	}
	f.traffic = loadtest.TrafficConfig{
		Events: cmd.Int("events"),
		Whole:  cmd.Bool("detect"),
		Bad:    bad,
		Text:   f.format == loadtest.JSON,
		Repeat: loadRepeat,
		Reuse:  loadReuse,
	}
	return f, nil
}

// perSecond reads 100000/s, with or without the /s; nothing is 0.
func perSecond(flag, s string) (float64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseFloat(strings.TrimSuffix(s, "/s"), 64)
	if err != nil || !(n > 0 && n < 1e9) {
		return 0, usageErrorf("--%s %s: want events a second, such as 100000/s", flag, s)
	}
	return n, nil
}

// onThisMachine refuses others.
func onThisMachine(list ...address) error {
	for _, at := range list {
		if !loadtest.Local(at.url) {
			return fmt.Errorf("%s is not on this machine: made-up scans in a real database do harm", redacted(at.url))
		}
	}
	return nil
}

// mustBeOpen says so when the system may refuse what nobody has a credential for. How
// it was started cannot be seen from here.
func mustBeOpen(ctx context.Context, js jetstream.JetStream, log *slog.Logger) error {
	shut, err := sender.Any(ctx, js)
	if shut {
		log.Warn("there are credentials: made-up institutions, which have none, are refused, unless the system was started with --senders open")
	}
	return err
}

func runLoadtest(ctx context.Context, cmd *cli.Command) error {
	flags, err := readLoadFlags(cmd)
	if err != nil {
		return err
	}
	natsAt, err := natsAddress(cmd)
	if err != nil {
		return err
	}
	clickHouseAt, err := clickHouseAddress(cmd)
	if err != nil {
		return err
	}
	if !cmd.Bool("allow-remote") {
		if err := onThisMachine(natsAt, clickHouseAt); err != nil {
			return fmt.Errorf("%w; if it is meant for that, say --allow-remote", err)
		}
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
	storedUpTo := func(ctx context.Context) (uint64, error) { return ingest.StoredUpTo(ctx, js, "") }
	if _, err := storedUpTo(ctx); err != nil {
		return fmt.Errorf("ask how far the ingester is: %w; start `yaosu up` or `yaosu ingest`", err)
	}
	var key *schema.PersonKey
	if cmd.Bool("detect") {
		if key, err = schema.LoadPersonKey(personKeyPath(cmd)); err != nil {
			return fmt.Errorf("%w: --detect needs the key the ingester uses, give it with --person-key", err)
		}
	}
	traffic, err := freshTraffic(ctx, conn, flags.traffic, cmd.Int("seed"))
	if err != nil {
		return err
	}

	processes := []loadtest.Process{loadtest.Self("loadtest"), loadtest.Listener("NATS", natsAt.url), loadtest.Listener("ClickHouse", clickHouseAt.url)}
	if cmd.String("nats") == "" {
		processes[1].Role = "yaosu up (NATS, ingester …)"
	}
	screen := terminal(cmd)
	bar := newCountBar(screen, flags.traffic.Events)
	report, failed := loadtest.Run(ctx, loadtest.Config{
		JS:         js,
		Conn:       conn,
		StoredUpTo: storedUpTo,
		Traffic:    traffic,
		Rate:       flags.rate,
		Format:     flags.format,
		PerMessage: flags.perMessage,
		Batch:      cmd.Int("batch"),
		Deadline:   cmd.Duration("deadline"),
		Published:  func(events int) { _ = bar.Set(min(events, flags.traffic.Events)) }, // only the look of it can fail
		Waiting:    func(messages uint64) { showWaiting(screen, bar, messages) },
		Log:        newLog(cmd),
	})
	finish(bar)
	if screen != nil {
		fmt.Fprint(screen, "\r\033[K")
	}
	for i := range processes {
		processes[i].Measure()
	}
	out := cmd.Root().Writer
	printLoad(out, flags, report, processes)
	if failed != nil {
		return failed
	}
	if cmd.Bool("detect") {
		if err := compareSuspects(ctx, cmd, conn, traffic, key); err != nil {
			return err
		}
	}
	if got := report.StoreRate(); got < flags.goal {
		return fmt.Errorf("the goal of %.0f events/s was missed: %.0f/s", flags.goal, got)
	}
	return nil
}

// freshTraffic makes traffic of towns the table knows nothing of: another run's
// rows would spoil the audit.
func freshTraffic(ctx context.Context, conn driver.Conn, cfg loadtest.TrafficConfig, seed int) (*loadtest.Traffic, error) {
	given := seed >= 0
	if !given {
		seed = int(time.Now().Unix() % loadtest.Towns)
	}
	for range seedTries {
		cfg.Seed = uint64(seed)
		span := cfg.Span()
		switch rows, err := loadtest.Occupied(ctx, conn, cfg.Seed, span); {
		case err != nil:
			return nil, err
		case rows == 0:
			return loadtest.NewTraffic(cfg)
		case given:
			return nil, fmt.Errorf("the table holds %d rows of the towns %d to %d already, from an earlier run: give another --seed, or none", rows, seed, seed+span-1)
		}
		seed = (seed + span) % loadtest.Towns
	}
	return nil, errors.New("found no towns the table knows nothing of: take a fresh system (yaosu up --data DIR)")
}

func newCountBar(screen *os.File, events int) *progressbar.ProgressBar {
	if screen == nil {
		return progressbar.DefaultSilent(int64(events))
	}
	return progressbar.NewOptions(events,
		progressbar.OptionSetWriter(screen),
		progressbar.OptionShowCount(),
		progressbar.OptionShowIts(),
		progressbar.OptionSetItsString("events"),
		progressbar.OptionThrottle(200*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)
}

func showWaiting(screen *os.File, bar *progressbar.ProgressBar, messages uint64) {
	finish(bar)
	if screen != nil {
		fmt.Fprintf(screen, "\r\033[Kwaiting: the ingester is %d messages behind", messages)
	}
}

func printLoad(out io.Writer, flags loadFlags, r *loadtest.Report, processes []loadtest.Process) {
	truth := r.Truth
	line := func(name, format string, args ...any) {
		fmt.Fprintf(out, "%-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	if len(truth.Towns) > 0 {
		line("traffic", "seed %d: %d events of %d towns; %d distinct (%d of them with the id of another), %d sent again, %d bad",
			truth.Towns[0].Number, truth.Events, len(truth.Towns), truth.Distinct, truth.Reused, truth.Repeats, truth.Bad())
	}
	line("published", "%d messages (%s, %d events each), %s in %s: %.0f events/s; %d messages sent again",
		r.Messages, flags.format, flags.perMessage, megabytes(r.Bytes), seconds(r.Publishing), r.PublishRate(), r.Resent)
	switch {
	case r.Storing == 0:
		line("stored", "not all of it")
	case flags.goal > 0:
		line("stored", "all, %s after the first was published: %.0f events/s (goal %.0f)", seconds(r.Storing), r.StoreRate(), flags.goal)
	default:
		line("stored", "all, %s after the first was published: %.0f events/s", seconds(r.Storing), r.StoreRate())
	}
	if l := r.Lag; l.Samples > 0 {
		line("lag", "p50 %s, p95 %s, p99 %s, longest %s, from publish to query: %d messages looked for every %s, %d not found",
			seconds(l.P50), seconds(l.P95), seconds(l.P99), seconds(l.Max), l.Samples, seconds(l.Grain), l.Lost)
	}
	for _, p := range processes {
		if p.Pid == 0 {
			line("memory", "%s: not known, %s", p.Role, p.Why)
			continue
		}
		line("memory", "%s: %s now, %s at most (process %d, %s of CPU since it began)", p.Role, megabytes(p.RSS), megabytes(p.Peak), p.Pid, seconds(p.CPU))
	}
	if !r.Audited {
		return
	}
	s := r.Stored
	line("audit", "%d events in %d rows of the view, quantities %s, prices %s; %d rejects; %s",
		s.Events, s.Rows, s.Sums.QuantityText(), s.Sums.PriceText(), sum(s.Rejected), seconds(r.Auditing))
	line("", "%d rows in the engine: %d of events sent again are not merged yet, %d were inserted twice",
		s.Physical, min(s.Physical-s.Rows, truth.RepeatRows), s.InsertedTwice(truth))
}

func sum(counts map[string]int) (n int) {
	for _, k := range counts {
		n += k
	}
	return n
}

func megabytes(n int64) string { return fmt.Sprintf("%.0f MB", float64(n)/1e6) }

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// compareSuspects loads the reference data and waits until what the detectors
// found is what there is to find.
func compareSuspects(ctx context.Context, cmd *cli.Command, conn driver.Conn, traffic *loadtest.Traffic, key *schema.PersonKey) error {
	rules, err := detect.Rules()
	if err != nil {
		return err
	}
	live := map[string]string{}
	for _, r := range rules {
		if r.Status == "live" {
			live[r.ID] = r.Entity
		}
	}
	if err := loadtest.LoadReference(ctx, conn, traffic, key, time.Now()); err != nil {
		return err
	}
	out, screen := cmd.Root().Writer, terminal(cmd)
	start := time.Now()
	late := time.NewTimer(cmd.Duration("deadline"))
	defer late.Stop()
	tick := time.NewTicker(suspectsPoll)
	defer tick.Stop()
	for {
		got, err := loadtest.Suspects(ctx, conn, traffic, key, live)
		if err != nil {
			return err
		}
		if len(got.Missing)+len(got.Extra) == 0 {
			fmt.Fprintf(out, "%-10s all %d found and no other, %s after all was stored: %d planted, %d of honest life that the words accuse\n",
				"suspects", got.Found, seconds(time.Since(start)), got.Planted, got.Accused)
			return nil
		}
		if screen != nil {
			fmt.Fprintf(screen, "\r\033[Kwaiting for the detectors: %d of %d found", got.Found, got.Planted+got.Accused)
		}
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
			return ctx.Err()
		case <-late.C:
		}
		for what, names := range map[string][]string{"not found": got.Missing, "too many": got.Extra} {
			for _, name := range names[:min(len(names), shownSuspects)] {
				fmt.Fprintf(out, "%-10s %s: %s\n", "suspects", what, printable(name, 120))
			}
		}
		return fmt.Errorf("of %d suspects %d were found within %s, and %d that should not be there; is the detector running?", got.Planted+got.Accused, got.Found, cmd.Duration("deadline"), len(got.Extra))
	}
}
