package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v3"
	"golang.org/x/sync/errgroup"

	"yaosu/ingest"
	"yaosu/loadtest"
)

const (
	checkKnown = 20          // boxes that are sold and looked for
	knownGoal  = time.Second // until another shop knows
	warmUp     = 2 * time.Second

	// leastStops is the share of settled codes that must be stopped. Some were
	// returned or cancelled.
	leastStops = 0.9
)

func loadtestCheckCommand() *cli.Command {
	return &cli.Command{
		Name:  "check",
		Usage: "asks a running system at a rate whether boxes may be sold, and measures the answers",
		Description: "Half of the checks are about codes that the table has an insured sale of, half about codes that\n" +
			"nobody ever saw. They are asked over NATS at their time, whether answers come or not, and each\n" +
			"answer is counted from when its check should have been asked. Meanwhile boxes are sold at one\n" +
			"shop and asked for at another until it knows; those sales stay in the table, as does the traffic\n" +
			"of --events: do not use the database of real work. Only a system of this machine is taken.\n\n" +
			"The exit status is 0 when all checks were answered, none degraded, no unknown code was stopped,\n" +
			"nine of ten settled ones were, and the goals were kept, else 1.\n\n" +
			"Examples:\n" +
			"  yaosu loadtest check\n" +
			"  yaosu loadtest check --rate 2000/s --time 60s --events 20000/s --p99 50ms",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "rate", Usage: "`RATE` of checks a second", Value: "2000/s"},
			&cli.DurationFlag{Name: "time", Usage: "how long (`TIME`), at most 10 minutes", Value: 30 * time.Second},
			&cli.StringFlag{Name: "events", Usage: "`RATE` of made-up events a second that are ingested meanwhile, such as 20000/s (default: none)"},
			&cli.DurationFlag{Name: "p99", Usage: "longest `TIME` for 99 of 100 answers (default: 10ms, with --events 50ms)"},
			&cli.DurationFlag{Name: "p999", Usage: "longest `TIME` for 999 of 1000 answers (default: 50ms, with --events no limit)"},
		},
		Action: runCheckLoad,
	}
}

func runCheckLoad(ctx context.Context, cmd *cli.Command) error {
	if err := noArguments(cmd); err != nil {
		return err
	}
	rate, err := perSecond("rate", cmd.String("rate"))
	if err != nil {
		return err
	}
	events, err := perSecond("events", cmd.String("events"))
	if err != nil {
		return err
	}
	span := cmd.Duration("time")
	if rate < 2 || rate > 100_000 || span < time.Second || span > 10*time.Minute {
		return usageErrorf("--rate %s --time %s: want 2 to 100000 checks a second, for 1s to 10m", cmd.String("rate"), span)
	}
	p99, p999 := 10*time.Millisecond, 50*time.Millisecond
	if events > 0 {
		p99, p999 = 50*time.Millisecond, time.Hour
	}
	if cmd.IsSet("p99") {
		p99 = cmd.Duration("p99")
	}
	if cmd.IsSet("p999") {
		p999 = cmd.Duration("p999")
	}
	for _, find := range []func(*cli.Command) (address, error){natsAddress, clickHouseAddress} {
		at, err := find(cmd)
		if err != nil {
			return err
		}
		if err := onThisMachine(at); err != nil {
			return err
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

	group, ctx := errgroup.WithContext(ctx)
	if events > 0 {
		// A connection of its own, so that no answer waits behind a message.
		publisher, err := openJetStream(ctx, cmd)
		if err != nil {
			return err
		}
		defer publisher.Conn().Close()
		traffic, err := freshTraffic(ctx, conn, loadtest.TrafficConfig{Events: int(events * (span + 2*warmUp).Seconds()), Text: true}, -1)
		if err != nil {
			return err
		}
		group.Go(func() error {
			_, err := loadtest.Run(ctx, loadtest.Config{
				JS:         publisher,
				Conn:       conn,
				StoredUpTo: func(ctx context.Context) (uint64, error) { return ingest.StoredUpTo(ctx, publisher, "") },
				Traffic:    traffic,
				Rate:       events,
				PerMessage: 50,
				Deadline:   span + 5*time.Minute,
				Log:        newLog(cmd),
			})
			return err
		})
	}
	var report *loadtest.CheckReport
	group.Go(func() (err error) {
		if events > 0 {
			select {
			case <-time.After(warmUp):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		report, err = loadtest.Checks(ctx, loadtest.CheckConfig{Conn: conn, JS: js, Rate: rate, Duration: span, Sales: checkKnown})
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	printChecks(cmd.Root().Writer, rate, events, report)
	return judgeChecks(report, p99, p999)
}

func printChecks(out io.Writer, rate, events float64, r *loadtest.CheckReport) {
	fmt.Fprintf(out, "checks     %.0f/s, while %.0f events/s are ingested\n", rate, events)
	for _, k := range []struct {
		name string
		*loadtest.Answers
	}{{"settled", &r.Settled}, {"never sold", &r.Unknown}} {
		fmt.Fprintf(out, "%-10s p50 %s, p99 %s, p99.9 %s, max %s; %d asked: %d stop, %d warn, %d pass; %d degraded, %d not answered\n",
			k.name, millis(k.P50), millis(k.P99), millis(k.P999), millis(k.Max), k.Asked, k.Stop, k.Warn, k.Pass, k.Degraded, k.Lost)
	}
	fmt.Fprintf(out, "known      p50 %s, max %s after the sale was acknowledged, at another shop; %d sales\n", millis(r.Known.P50), millis(r.Known.Max), r.Known.Samples)
}

func millis(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000) }

// judgeChecks says which goals were missed.
func judgeChecks(r *loadtest.CheckReport, p99, p999 time.Duration) error {
	var missed []error
	miss := func(format string, args ...any) { missed = append(missed, fmt.Errorf(format, args...)) }
	for name, a := range map[string]*loadtest.Answers{"settled": &r.Settled, "never sold": &r.Unknown} {
		if a.P99 > p99 || a.P999 > p999 {
			miss("%s codes: p99 %s, p99.9 %s, want at most %s and %s", name, millis(a.P99), millis(a.P999), millis(p99), millis(p999))
		}
		if n := a.Asked - a.Pass - a.Warn - a.Stop; n > 0 {
			miss("%s codes: %d checks have no answer", name, n)
		}
		if a.Degraded > 0 {
			miss("%s codes: %d answers are degraded", name, a.Degraded)
		}
	}
	if r.Unknown.Stop > 0 {
		miss("%d codes that were never sold are stopped", r.Unknown.Stop)
	}
	if least := int(leastStops * float64(r.Settled.Asked)); r.Settled.Stop < least {
		miss("of %d settled codes %d are stopped, want at least %d", r.Settled.Asked, r.Settled.Stop, least)
	}
	if r.Known.Max > knownGoal {
		miss("a sale is known at another shop after %s, want %s", millis(r.Known.Max), millis(knownGoal))
	}
	return errors.Join(missed...)
}
