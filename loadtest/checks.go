package loadtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"yaosu/schema"
)

// CheckConfig says how a system is asked whether boxes may be sold.
type CheckConfig struct {
	// Conn has a table with sales, JS the stream; checks are asked over its
	// connection.
	Conn driver.Conn
	JS   jetstream.JetStream

	// Rate is how many checks a second are asked, at moments that do not depend on the
	// answers: a slow answer is counted from when it should have been asked. Half of
	// them are about codes that were sold to the fund, half about codes never seen.
	Rate float64

	// Duration is how long.
	Duration time.Duration

	// Sales is how many boxes are sold meanwhile at one shop and asked for at another
	// until that one knows.
	Sales int
}

// CheckReport is what the answers were.
type CheckReport struct {
	Settled, Unknown Answers
	Known            Delays // from the acknowledgement of a sale until another shop is told to stop
}

// Answers are those about one kind of codes.
type Answers struct {
	Asked, Lost           int
	Pass, Warn, Stop      int
	Degraded              int
	Delays                        // from the moment a check should have been asked
	delays                []int64 // nanoseconds, 0 for none
	pass, warn, stop, bad atomic.Int64
}

// Delays are how long answers took.
type Delays struct {
	P50, P99, P999, Max time.Duration
	Samples             int
}

func delaysOf(nanos []int64) Delays {
	nanos = slices.DeleteFunc(slices.Clone(nanos), func(n int64) bool { return n == 0 })
	if len(nanos) == 0 {
		return Delays{}
	}
	slices.Sort(nanos)
	at := func(share float64) time.Duration { return time.Duration(nanos[int(share*float64(len(nanos)-1))]) }
	return Delays{P50: at(0.5), P99: at(0.99), P999: at(0.999), Max: at(1), Samples: len(nanos)}
}

const (
	checkOrg     = "LOADTEST-CHECK-T" // asks, and sells nothing
	checkSeller  = "LOADTEST-SELLER-T"
	checkRegion  = "530101"
	checkCodes   = 50_000 // codes that are asked about
	checkPatient = 2 * time.Second
	knownPoll    = 2 * time.Millisecond
	knownAtMost  = 10 * time.Second
)

// checkReply is what is looked at of an answer.
type checkReply struct {
	Decision string `json:"decision"`
	Degraded bool   `json:"degraded"`
}

// Checks asks, and returns what the answers were.
func Checks(ctx context.Context, cfg CheckConfig) (*CheckReport, error) {
	settled, err := settledCodes(ctx, cfg.Conn)
	if err != nil {
		return nil, err
	}
	if len(settled) == 0 {
		return nil, errors.New("the table has no insured sale to ask about: publish some first, with yaosu loadtest")
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.Duration+time.Minute)
	defer cancel()
	report := &CheckReport{}
	group, ctx := errgroup.WithContext(ctx)
	asking, asked := context.WithCancel(ctx)
	group.Go(func() error {
		defer asked()
		return cfg.ask(ctx, settled, report)
	})
	group.Go(func() error { return cfg.sell(asking, settled[0], report) })
	return report, group.Wait()
}

// settledCodes are codes of insured sales from all over the table.
func settledCodes(ctx context.Context, conn driver.Conn) ([]string, error) {
	var sales uint64
	if err := conn.QueryRow(ctx, "SELECT count() FROM scan_rows WHERE kind = 'sale'").Scan(&sales); err != nil {
		return nil, fmt.Errorf("count the sales: %w", err)
	}
	every := max(1, sales/checkCodes)
	rows, err := conn.Query(ctx, fmt.Sprintf(`SELECT DISTINCT concat('8', leftPad(toString(code), 19, '0'))
FROM scan_rows
WHERE kind = 'sale' AND pay = 'insured' AND scheme = 'cn20' AND intHash64(code) %% %d = 0
LIMIT %d`, every, 2*checkCodes))
	if err != nil {
		return nil, fmt.Errorf("choose codes that were sold: %w", err)
	}
	defer rows.Close()
	var codes []string
	for rows.Next() {
		var code string
		if err := rows.Scan(&code); err != nil {
			return nil, err
		}
		codes = append(codes, code)
	}
	rand.Shuffle(len(codes), func(i, j int) { codes[i], codes[j] = codes[j], codes[i] })
	return codes, rows.Err()
}

// neverSold is a code of the same product with a serial nobody made.
func neverSold(like string) string {
	return fmt.Sprintf("%s%013d", like[:7], rand.Uint64N(1e13))
}

func checkBody(code, org string) []byte {
	body, _ := json.Marshal(map[string]any{"codes": []string{code}, "org": org, "region": checkRegion}) // of strings
	return body
}

// ask asks at the rate and waits for the last answers.
func (c *CheckConfig) ask(ctx context.Context, settled []string, report *CheckReport) error {
	conn := c.JS.Conn()
	n := int(c.Rate * c.Duration.Seconds())
	kinds := [2]*Answers{&report.Settled, &report.Unknown}
	for _, k := range kinds {
		k.delays = make([]int64, (n+1)/2)
	}
	// The time a check should be asked at is told by its number.
	begin := time.Now().Add(100 * time.Millisecond)
	due := func(i int) time.Time { return begin.Add(time.Duration(float64(i) / c.Rate * float64(time.Second))) }
	inbox := nats.NewInbox()
	var open sync.WaitGroup
	subscription, err := conn.Subscribe(inbox+".*", func(m *nats.Msg) {
		now := time.Now()
		var i int
		if _, err := fmt.Sscanf(m.Subject[len(inbox)+1:], "%d", &i); err != nil || i < 0 || i >= n {
			return
		}
		k := kinds[i%2]
		if !atomic.CompareAndSwapInt64(&k.delays[i/2], 0, max(1, int64(now.Sub(due(i))))) {
			return
		}
		defer open.Done()
		var reply checkReply
		if len(m.Data) == 0 || json.Unmarshal(m.Data, &reply) != nil {
			return // nobody answers, or no answer: none of the decisions
		}
		switch reply.Decision {
		case "pass":
			k.pass.Add(1)
		case "warn":
			k.warn.Add(1)
		case "stop":
			k.stop.Add(1)
		}
		if reply.Degraded {
			k.bad.Add(1)
		}
	})
	if err != nil {
		return fmt.Errorf("listen for answers: %w", err)
	}
	defer func() { _ = subscription.Unsubscribe() }()
	subject := schema.CheckSubject(checkRegion, checkOrg)
	for i := range n {
		if wait := time.Until(due(i)); wait > 0 {
			time.Sleep(wait)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		code := settled[i/2%len(settled)]
		if i%2 == 1 {
			code = neverSold(code)
		}
		open.Add(1)
		kinds[i%2].Asked++
		if err := conn.PublishRequest(subject, fmt.Sprintf("%s.%d", inbox, i), checkBody(code, checkOrg)); err != nil {
			return fmt.Errorf("ask: %w", err)
		}
	}
	all := make(chan struct{})
	go func() { open.Wait(); close(all) }()
	select {
	case <-all:
	case <-time.After(checkPatient):
	}
	for _, k := range kinds {
		for i := range k.Asked {
			if atomic.LoadInt64(&k.delays[i]) == 0 {
				k.Lost++
			}
		}
		k.Delays = delaysOf(k.delays)
		k.Pass, k.Warn, k.Stop, k.Degraded = int(k.pass.Load()), int(k.warn.Load()), int(k.stop.Load()), int(k.bad.Load())
	}
	return nil
}

// sell sells boxes at one shop until there is nobody asking any more, and asks for
// each at another until that one knows.
func (c *CheckConfig) sell(ctx context.Context, like string, report *CheckReport) error {
	var known []int64
	tick := time.NewTicker(max(time.Millisecond, c.Duration/time.Duration(c.Sales+2)))
	defer tick.Stop()
	for range c.Sales {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		took, err := c.sellOne(context.WithoutCancel(ctx), neverSold(like))
		if err != nil {
			return err
		}
		known = append(known, int64(took))
	}
	report.Known = delaysOf(known)
	return nil
}

func (c *CheckConfig) sellOne(ctx context.Context, code string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, knownAtMost)
	defer cancel()
	event, err := json.Marshal(map[string]any{
		"event_id": nats.NewInbox()[7:], "kind": schema.Sale, "time": time.Now().Format(time.RFC3339Nano),
		"org": checkSeller, "region": checkRegion, "codes": []string{code}, "pay": schema.PayInsured,
	})
	if err != nil {
		return 0, err
	}
	if _, err := c.JS.Publish(ctx, schema.ScanSubject(checkRegion, checkSeller), event); err != nil {
		return 0, fmt.Errorf("sell a box: %w", err)
	}
	acknowledged := time.Now()
	for {
		answer, err := c.JS.Conn().RequestWithContext(ctx, schema.CheckSubject(checkRegion, checkOrg), checkBody(code, checkOrg))
		if err != nil {
			return 0, fmt.Errorf("a box sold at one shop is not known at another after %s: %w", time.Since(acknowledged).Round(time.Millisecond), err)
		}
		var reply checkReply
		if err := json.Unmarshal(answer.Data, &reply); err != nil {
			return 0, fmt.Errorf("read an answer: %w", err)
		}
		if reply.Decision == "stop" {
			return max(1, time.Since(acknowledged)), nil
		}
		select {
		case <-time.After(knownPoll):
		case <-ctx.Done():
			return 0, fmt.Errorf("a box sold at one shop is not known at another after %s", knownAtMost)
		}
	}
}
