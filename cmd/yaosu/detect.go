package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"yaosu/detect"
)

func detectCommand() *cli.Command {
	return &cli.Command{
		Name:  "detect",
		Usage: "finds suspects in what is in the table",
		Description: "Runs until it is stopped, and makes a pass whenever scans or reference data came in. With\n" +
			"--once it makes one full pass over everything and ends; the same scans give the same\n" +
			"suspects, however often it runs. `yaosu suspects` prints them; detect explain ID tells one.\n\n" +
			"The service publishes each new state of a suspect once on the stream SUSPECTS of --nats, on\n" +
			"suspect.v1.<region>.<detector>, also what `yaosu review` decided. Without a NATS it only writes\n" +
			"to the table, and who is started with one later publishes what is missing.\n\n" +
			"Examples:\n" +
			"  yaosu detect --once\n" +
			"  yaosu detect --list\n" +
			"  yaosu detect --once --rule resold_code --param resold_code.clone_days=5\n" +
			"  yaosu detect explain 7rigb4nirasbhmn8",
		Commands: []*cli.Command{explainCommand()},
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "once", Usage: "make one full pass and end"},
			&cli.BoolFlag{Name: "rebuild", Usage: "with --once: work everything out from the scans again, not from what passes keep"},
			&cli.BoolFlag{Name: "list", Usage: "print the rules with their parameters and end"},
			&cli.StringSliceFlag{Name: "rule", Usage: "run only this `RULE`; may be given again. With one that is not live nothing is written, what it finds is logged"},
			&cli.StringSliceFlag{Name: "param", Usage: "`RULE.NAME=VALUE` in the place of a default; may be given again"},
			&cli.BoolFlag{Name: "write", Usage: "with --once and --param: write the suspects too, not only count them"},
			&cli.DurationFlag{Name: "every", Usage: "how often (`TIME`) to look whether anything came in", Value: 10 * time.Second},
		},
		Action: runDetectVerb,
	}
}

func runDetectVerb(ctx context.Context, cmd *cli.Command) error {
	if err := noArguments(cmd); err != nil {
		return err
	}
	cfg := detect.Config{Every: cmd.Duration("every"), Rebuild: cmd.Bool("once") && cmd.Bool("rebuild"), Log: newLog(cmd)}
	all, err := detect.Rules()
	if err != nil {
		return err
	}
	if cmd.Bool("list") {
		return listRules(cmd, all)
	}
	for _, id := range cmd.StringSlice("rule") {
		i := slices.IndexFunc(all, func(r detect.Rule) bool { return r.ID == id })
		if i < 0 {
			return usageErrorf("no rule is called %s: yaosu detect --list prints them", id)
		}
		cfg.Rules = append(cfg.Rules, all[i])
		cfg.Try = cfg.Try || all[i].Status != "live"
	}
	if cfg.Params, err = ruleParams(cmd.StringSlice("param")); err != nil {
		return err
	}
	// A trial of other thresholds must not rewrite what stands.
	cfg.Try = cfg.Try || cmd.Bool("once") && len(cfg.Params) > 0 && !cmd.Bool("write")
	if err := cfg.Check(); err != nil {
		return usageError{err.Error()}
	}
	if cfg.Conn, err = openClickHouse(ctx, cmd); err != nil {
		return err
	}
	defer cfg.Conn.Close()
	if !cmd.Bool("once") {
		if _, err := natsAddress(cmd); err != nil {
			cfg.Log.Warn("suspects are not published, no NATS is known", "error", err)
			return detect.Run(ctx, cfg)
		}
		if cfg.JetStream, err = openJetStream(ctx, cmd); err != nil {
			return err
		}
		defer cfg.JetStream.Conn().Close()
		return detect.Run(ctx, cfg)
	}
	report, failed := detect.Once(ctx, cfg)
	out := newTable(cmd.Root().Writer, "rule", "found", "new", "changed", "explained", "took")
	var found int
	for _, r := range report.Rules {
		found += r.Found
		out.AppendRow([]any{r.ID, r.Found, r.New, r.Changed, r.Explained, r.Took.Round(time.Millisecond)})
	}
	out.Render()
	if cfg.Try {
		fmt.Fprintln(cmd.Root().Writer, "on trial: nothing was written")
	}
	fmt.Fprintf(cmd.Root().Writer, "%d suspects stand, pass took %s\n", found, report.Took.Round(time.Millisecond))
	return failed
}

func ruleParams(given []string) (map[string]string, error) {
	params := map[string]string{}
	for _, setting := range given {
		name, value, found := strings.Cut(setting, "=")
		if !found || name == "" || value == "" {
			return nil, usageErrorf("--param %s: want RULE.NAME=VALUE, for example resold_code.clone_days=5", setting)
		}
		params[name] = value
	}
	return params, nil
}

func listRules(cmd *cli.Command, rules []detect.Rule) error {
	out := newTable(cmd.Root().Writer, "rule", "规则", "status", "severity", "entity", "parameters")
	for _, r := range rules {
		var params []string
		for _, p := range r.Params {
			params = append(params, p.Name+"="+p.Default)
		}
		out.AppendRow([]any{r.ID, r.TitleZH, r.Status, r.Severity, r.Entity, strings.Join(params, " ")})
	}
	out.Render()
	return nil
}
