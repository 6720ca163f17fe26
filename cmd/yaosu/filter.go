package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"yaosu/gate"
	"yaosu/gate/check"
	"yaosu/gate/filter"
)

// filterDir is where a filter is, in the directory of an index or of a spool.
const filterDir = "filter"

// makeFilter has cfg hand out a filter of what the checker, whose index is in dir,
// knows, and returns what has to run for that until ctx ends.
func makeFilter(cmd *cli.Command, cfg *gate.Config, checker *check.Checker, dir string, counted *counted) (run func(ctx context.Context) error, err error) {
	every := cmd.Duration("filter-every")
	if every == 0 {
		return func(context.Context) error { return nil }, nil
	}
	set, err := filter.Open(filepath.Join(dir, filterDir))
	if err != nil {
		return nil, err
	}
	metrics := &filter.BuildMetrics{}
	builder, err := filter.NewBuilder(filter.Config{Source: checker, Set: set, Every: every, Metrics: metrics, Log: newLog(cmd).With("part", "filter")})
	if err != nil {
		return nil, errors.Join(err, set.Close())
	}
	counted.filter(metrics)
	cfg.Filter = set
	return func(ctx context.Context) error { return errors.Join(builder.Run(ctx), set.Close()) }, nil
}

// filterEvery is of who makes filters.
func filterEvery() cli.Flag {
	return &cli.DurationFlag{Name: "filter-every", Usage: "how often (`TIME`) the filter of settled codes, for agents without network, is made anew when enough has changed; 0: none is made", Value: time.Hour, Validator: notBefore}
}

// agentFilterFlags are of who fetches one.
func agentFilterFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "gate", Usage: "`URL` of the gate, https://host:port, from which the filter of settled codes is fetched for times without network, with the token of --credential (default: none)"},
		&cli.DurationFlag{Name: "filter-every", Usage: "how often (`TIME`) a newer filter is asked for", Value: time.Hour, Validator: above0},
		&cli.IntFlag{Name: "filter-rate", Usage: "most `BYTES` a second that are fetched of it", Value: 256 << 10, Validator: atLeast16KiB},
		&cli.Int64Flag{Name: "filter-bytes", Usage: "most `BYTES` it may have; while a newer one comes the disk holds up to twice that", Value: 1 << 30, Validator: atLeastOneByte},
	}
}

func notBefore(d time.Duration) error {
	if d < 0 {
		return fmt.Errorf("%s: want 0 or more", d)
	}
	return nil
}

func above0(d time.Duration) error {
	if d <= 0 {
		return fmt.Errorf("%s: want more than 0", d)
	}
	return nil
}

func atLeast16KiB(n int) error {
	if n < 16<<10 {
		return fmt.Errorf("%d: a gate waits a minute for who fetches a part, so want 16384 or more", n)
	}
	return nil
}

// agentFilter is what an agent's flags say of its filter; nil without --gate.
func agentFilter(cmd *cli.Command, log *slog.Logger) (*filter.FetchConfig, error) {
	address := cmd.String("gate")
	if address == "" {
		return nil, nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, usageErrorf("--gate %s: want an address such as https://gate.example.org:8443", redacted(address))
	}
	token, err := filterToken(cmd)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "http" && !isLoopback(u.Hostname()) {
		log.Warn("the token travels in the clear: give --gate an address that begins with https")
	}
	return &filter.FetchConfig{
		URL:      address,
		Token:    token,
		Every:    cmd.Duration("filter-every"),
		Rate:     cmd.Int("filter-rate"),
		MaxBytes: cmd.Int64("filter-bytes"),
		Metrics:  &filter.FetchMetrics{},
		Log:      log,
	}, nil
}

// filterToken reads what is shown to the gate, each time anew: it may have been mended.
func filterToken(cmd *cli.Command) (func() (string, error), error) {
	path := cmd.String("credential")
	if path == "" {
		token := ""
		if _, ok := senderOf(cmd.String("nats")); ok {
			u, err := url.Parse(cmd.String("nats"))
			if err != nil {
				return nil, err
			}
			token, _ = u.User.Password()
		}
		return func() (string, error) { return token, nil }, nil
	}
	read := func() (string, error) {
		text, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("read the credential: %w", err)
		}
		return strings.TrimSpace(string(text)), nil
	}
	if text, err := read(); err != nil {
		return nil, err
	} else if strings.Contains(text, "BEGIN NATS USER JWT") {
		return nil, usageErrorf("--gate needs a token of `yaosu org add` in --credential: a .creds file is of NATS alone")
	}
	return read, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
