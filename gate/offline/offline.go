package offline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"yaosu/gate"
	"yaosu/gate/filter"
	"yaosu/schema"
)

// Config says what is behind an agent.
type Config struct {
	// Sink keeps the events.
	Sink gate.Sink

	// Conn is the connection checks are asked over; nil, or down, is being offline.
	Conn func() *nats.Conn

	// Settled, when given, tells what was settled elsewhere when it was last fetched.
	Settled *filter.Set

	// SettledFor is how old that may be for an answer that a code is not in it. That
	// it is in it is told however old it is. Default 10 days.
	SettledFor time.Duration

	// Now is when a check is asked. Default time.Now.
	Now func() time.Time

	// Dir gets the file of what was sold here. It belongs to one process at a time.
	Dir string

	// Patience is how long upstream may take to answer a check. Default 800 ms.
	Patience time.Duration

	// Log gets why upstream did not answer. Default: nowhere.
	Log *slog.Logger
}

const (
	defaultPatience = 800 * time.Millisecond
	defaultSettled  = 10 * 24 * time.Hour

	// quietTime is how long nobody may have asked anything for the till to be idle.
	quietTime = 2 * time.Second

	soldFile = "sold"
)

// Rules of the answers given here.
const (
	ruleOffline = "offline"
	ruleNoCode  = "no_item_code"
	ruleSold    = "sold_here"
	rulePerhaps = "perhaps_settled"
	ruleAbsent  = "not_settled_then"
)

// Agent is a gate.Sink that remembers what was sold, and a gate.Checker.
type Agent struct {
	cfg      Config
	sold     *sold
	classify *schema.Classifier
	used     atomic.Int64     // when somebody asked for something, nanoseconds since 1970
	counts   [3]atomic.Uint64 // codes answered here, by filter.Answer
}

var (
	_ gate.Sink    = (*Agent)(nil)
	_ gate.Checker = (*Agent)(nil)
)

// Open opens what is remembered in cfg.Dir, which must be there.
func Open(cfg Config) (*Agent, error) {
	if cfg.Sink == nil || cfg.Conn == nil || cfg.Dir == "" {
		return nil, errors.New("offline: needs a sink, a connection and a directory")
	}
	if cfg.Patience <= 0 {
		cfg.Patience = defaultPatience
	}
	if cfg.SettledFor <= 0 {
		cfg.SettledFor = defaultSettled
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	sold, err := openSold(filepath.Join(cfg.Dir, soldFile))
	if err != nil {
		return nil, err
	}
	return &Agent{cfg: cfg, sold: sold, classify: schema.NewClassifier(nil)}, nil
}

// Close ends the remembering.
func (a *Agent) Close() error { return a.sold.close() }

// Store implements gate.Sink.
func (a *Agent) Store(ctx context.Context, region, org string, events []json.RawMessage) error {
	a.used.Store(time.Now().UnixNano())
	if err := a.cfg.Sink.Store(ctx, region, org, events); err != nil {
		return err
	}
	var entries []entry
	var scan schema.Scan
	for _, event := range events {
		if scan.DecodeJSON(event) == nil {
			entries = append(entries, a.entries(&scan)...)
		}
	}
	a.sold.note(entries)
	return nil
}

// entries are what an event says of boxes.
func (a *Agent) entries(scan *schema.Scan) (list []entry) {
	named := sale{
		at:         scan.Time.UnixMilli(),
		settlement: name("settlement", scan.Org, scan.Settlement),
		event:      name("event", scan.Org, scan.EventID),
		batch:      name("batch", scan.Org, scan.BatchNo),
	}
	switch scan.Kind {
	case schema.Void:
		named.event = name("event", scan.Org, scan.Reverses)
		return []entry{{entryVoid, 0, named}}
	case schema.Sale, schema.SaleReturn:
	default:
		return nil
	}
	if scan.Split {
		return nil // a box may be sold in many parts
	}
	kind := byte(entrySale)
	if scan.Kind == schema.SaleReturn {
		kind = entryReturn
	}
	for _, raw := range scan.Codes {
		if code := a.classify.Classify(raw, scan.Drug); code.Key != "" {
			list = append(list, entry{kind, box(scan.Org, code), named})
		}
	}
	return list
}

func box(org string, code schema.Code) uint64 { return name("box", org, code.Key) }

// Check implements gate.Checker.
func (a *Agent) Check(ctx context.Context, q gate.CheckRequest) (gate.CheckReply, error) {
	began := time.Now()
	a.used.Store(began.UnixNano())
	reply, err := a.ask(ctx, q)
	var wrong *gate.RequestError
	if errors.As(err, &wrong) {
		return gate.CheckReply{}, wrong
	}
	if err != nil {
		a.cfg.Log.Info("a check is answered here, as nobody answers upstream", "error", err)
		reply = a.answer(q)
	}
	reply.TookMs = float64(time.Since(began).Microseconds()) / 1000
	return reply, nil
}

// ask asks upstream.
func (a *Agent) ask(ctx context.Context, q gate.CheckRequest) (reply gate.CheckReply, err error) {
	conn := a.cfg.Conn()
	if conn == nil || !conn.IsConnected() {
		return reply, errors.New("not connected to NATS")
	}
	body, err := json.Marshal(q)
	if err != nil {
		return reply, err
	}
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Patience)
	defer cancel()
	msg, err := conn.RequestWithContext(ctx, schema.CheckSubject(q.Region, q.Org), body)
	if err != nil {
		return reply, err
	}
	if msg.Header.Get(schema.HeaderError) != "" {
		var problem struct{ Detail string }
		if err := json.Unmarshal(msg.Data, &problem); err != nil {
			return reply, fmt.Errorf("upstream refused the request, and said why in other words than ours: %w", err)
		}
		return reply, &gate.RequestError{Reason: problem.Detail}
	}
	if err := json.Unmarshal(msg.Data, &reply); err != nil {
		return reply, fmt.Errorf("upstream answered something else: %w", err)
	}
	if len(reply.Codes) != len(q.Codes) {
		return reply, fmt.Errorf("upstream answered for %d codes of %d", len(reply.Codes), len(q.Codes))
	}
	return reply, nil
}

// Idle tells whether nobody has asked anything for two seconds.
func (a *Agent) Idle() bool { return time.Since(time.Unix(0, a.used.Load())) > quietTime }

// Answered counts codes that were answered here, by what the filter said of them.
func (a *Agent) Answered(as filter.Answer) uint64 { return a.counts[as].Load() }

// answer is what can be said without anybody else.
func (a *Agent) answer(q gate.CheckRequest) gate.CheckReply {
	reply := gate.CheckReply{Decision: gate.Warn, Degraded: true}
	settlement := name("settlement", q.Org, q.Settlement)
	codes := make([]schema.Code, len(q.Codes))
	for i, raw := range q.Codes {
		codes[i] = a.classify.Classify(raw, q.Drug)
	}
	elsewhere, asOf := a.elsewhere(codes)
	for i, code := range codes {
		c := gate.CodeReply{Code: q.Codes[i], Scheme: string(code.Scheme), Decision: gate.Warn}
		add := func(rule, text string) { c.Reasons = append(c.Reasons, gate.Reason{Rule: rule, Text: text}) }
		last, known := a.sold.find(box(q.Org, code))
		switch {
		case code.Key == "":
			add(ruleNoCode, "未能识别出药品追溯码，请核对后重新扫描")
		case known && settlement != 0 && last.settlement == settlement:
			// The same sale again: what the filter knows may be just this.
		case known && !q.Split:
			at := time.UnixMilli(last.at).In(schema.Shanghai)
			add(ruleSold, fmt.Sprintf("本机构已于 %s 售出此码，未见退货记录，请核对是否重复扫码", at.Format("2006-01-02 15:04")))
			c.Last = &gate.Last{Own: true, Org: q.Org, Region: q.Region, Time: at}
		case elsewhere[i] == filter.Perhaps && q.Split:
			add(rulePerhaps, fmt.Sprintf("此码可能在 %s 之前已医保结算过(断网查询，约有千分之四误报)，如非同一盒药拆零续售，请核对来源", asOf))
		case elsewhere[i] == filter.Perhaps:
			add(rulePerhaps, fmt.Sprintf("此码可能在 %s 之前已医保结算过(断网查询，约有千分之四误报)，请核对来源，尽量联网查询后再售", asOf))
		case elsewhere[i] == filter.Absent:
			add(ruleAbsent, fmt.Sprintf("截至 %s 已上传的医保结算中没有此码，此后是否结算暂不能查询", asOf))
		}
		add(ruleOffline, "网络不通，暂不能查询此码是否已在别处结算，请核对后再售")
		reply.Codes = append(reply.Codes, c)
	}
	return reply
}

// elsewhere is what the filter says of codes, and as of when.
func (a *Agent) elsewhere(codes []schema.Code) (answers []filter.Answer, asOf string) {
	answers = make([]filter.Answer, len(codes))
	if a.cfg.Settled == nil {
		return answers, ""
	}
	var numbers []uint64
	var at []int
	for i, code := range codes {
		if code.Item() {
			numbers, at = append(numbers, code.Number()), append(at, i)
		}
	}
	found, when := a.cfg.Settled.Find(numbers)
	for i, answer := range found {
		if answer == filter.Absent && a.cfg.Now().Sub(when) > a.cfg.SettledFor {
			answer = filter.Unknown
		}
		answers[at[i]] = answer
		a.counts[answer].Add(1)
	}
	return answers, when.In(schema.Shanghai).Format("2006-01-02 15:04")
}
