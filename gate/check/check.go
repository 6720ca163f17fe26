package check

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"yaosu/gate"
	"yaosu/schema"
)

// Config says what a Checker reads and where it keeps its index.
type Config struct {
	// Dir is the directory of the index, of this process alone. It may be deleted
	// while nobody uses it: it is made again from the table. About 30 bytes for each
	// upload of a sale or return.
	Dir string

	// Conn has the tables, JS the stream SCANS.
	Conn *schema.Conn
	JS   jetstream.JetStream

	// StoredUpTo says up to which sequence of SCANS everything is in the table.
	StoredUpTo func(context.Context) (uint64, error)

	// Key is the one the ingester uses, so that persons of a request and of the
	// stream can be compared with those of the table.
	Key *schema.PersonKey

	// Strict is that of the ingester: asked for each message whether its events must be
	// of the institution and region in its subject. Default: events may be anybody's.
	Strict func() bool

	// CloneDays is the parameter clone_days of the detectors. Default 3.
	CloneDays int

	// KeepNewest is how many uploads are held in memory before they are written to a
	// file, about 80 bytes each. Default 500,000.
	KeepNewest int

	// Now is the time of the sale that is asked about. Default time.Now.
	Now func() time.Time

	// Metrics, when given, counts what happens.
	Metrics *Metrics

	// Log gets what went wrong. Default: nowhere.
	Log *slog.Logger
}

// Checker is a gate.Checker.
type Checker struct {
	Config
	store     atomic.Pointer[store] // nil while the index is being made
	reference atomic.Pointer[reference]
	away      atomic.Pointer[string] // why answers are degraded now; nil when they are not
	damaged   chan error             // holds one: a run that cannot be trusted
}

var _ gate.Checker = (*Checker)(nil)

// New returns a Checker. It answers at once, and knows nothing until Run was called.
func New(cfg Config) (*Checker, error) {
	if cfg.Dir == "" || cfg.Conn == nil || cfg.JS == nil || cfg.StoredUpTo == nil || cfg.Key == nil {
		return nil, errors.New("check: needs a directory, the tables, the stream, who knows what is stored and the key of persons")
	}
	if cfg.CloneDays <= 0 {
		cfg.CloneDays = 3
	}
	if cfg.KeepNewest <= 0 {
		cfg.KeepNewest = 500_000
	}
	if cfg.Strict == nil {
		cfg.Strict = func() bool { return false }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Metrics == nil {
		cfg.Metrics = &Metrics{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Checker{Config: cfg, damaged: make(chan error, 1)}
	c.degrade(awayStart)
	// Until the tables were read, codes are told apart all the same.
	c.reference.Store(&reference{classify: schema.NewClassifier(nil)})
	return c, nil
}

// Words of the check's own, beside those of the detectors.
const (
	ruleNoCode  = "no_item_code"
	ruleTooMany = "too_many_uploads"
	awayStart   = "index_not_ready"
	awayEngine  = "engine_away"
	awayStream  = "stream_away"
	awayBehind  = "stream_behind"
	awayDamaged = "index_damaged"
)

// Check answers whether the boxes may be sold now, as one insured sale. Its only
// error is a *gate.RequestError. It waits for nobody, so it does not look at ctx.
func (c *Checker) Check(_ context.Context, q gate.CheckRequest) (gate.CheckReply, error) {
	begun := time.Now()
	if err := q.Validate(); err != nil {
		c.Metrics.refused.Add(1)
		return gate.CheckReply{}, err
	}
	asker := c.asker(&q)
	reply := gate.CheckReply{Decision: gate.Pass, Codes: make([]gate.CodeReply, len(q.Codes))}
	stops, warns := 0, 0
	for i, raw := range q.Codes {
		answer := asker.answer(raw)
		reply.Codes[i] = answer
		switch answer.Decision {
		case gate.Stop:
			stops++
			reply.Decision = gate.Stop
		case gate.Warn:
			warns++
			if reply.Decision == gate.Pass {
				reply.Decision = gate.Warn
			}
		}
	}
	reply.Degraded = asker.away != "" || asker.long
	took := time.Since(begun)
	reply.TookMs = float64(took.Microseconds()) / 1000
	c.Metrics.answered(len(q.Codes), stops, warns, reply.Degraded, took)
	return reply, nil
}

// asker answers the codes of one request.
type asker struct {
	q     *gate.CheckRequest
	store *store // nil: nothing is known
	ref   *reference
	sale  upload // but for its code
	day   string
	clone int64
	away  string // why the answers are degraded
	long  bool   // a code was uploaded too often to be looked at
	hurt  func(error)
}

func (c *Checker) asker(q *gate.CheckRequest) *asker {
	now := c.Now()
	a := &asker{q: q, store: c.store.Load(), ref: c.reference.Load(), day: dayOf(now), clone: int64(c.CloneDays) * 24 * time.Hour.Milliseconds(), hurt: c.hurt}
	if away := c.away.Load(); away != nil {
		a.away = *away
	}
	rows, boxes := a.ref.classify.Items(nil, q.Codes, q.Drug)
	quantity := float64(boxes)
	if q.Quantity != nil {
		quantity = math.Round(*q.Quantity*1e6) / 1e6
	}
	a.sale = upload{
		org:        q.Org,
		region:     q.Region,
		at:         now.UnixMilli(),
		sent:       now.UnixMilli(),
		settlement: nameOf(q.Settlement),
		person:     personOf(c.Key.Pseudonym(q.Person)),
		share:      quantity / float64(max(1, len(rows))),
		insured:    true,
		split:      q.Split,
	}
	return a
}

// hurt has Run make the index again.
func (c *Checker) hurt(err error) {
	select {
	case c.damaged <- err:
	default:
	}
}

func (a *asker) answer(raw string) gate.CodeReply {
	code := a.ref.classify.Classify(raw, a.q.Drug)
	answer := gate.CodeReply{Code: raw, Scheme: string(code.Scheme), Decision: gate.Pass, Reasons: []gate.Reason{}}
	add := func(decision, rule, text string) {
		answer.Reasons = append(answer.Reasons, gate.Reason{Rule: rule, Text: text})
		if answer.Decision != gate.Stop {
			answer.Decision = decision
		}
	}
	away := a.away
	if spans := a.ref.suspended[a.q.Org]; within(spans, a.day) && !a.ref.exempts(ruleSuspended, "org", a.q.Org, a.day) {
		add(gate.Stop, ruleSuspended, textSuspended)
	}
	if !code.Item() {
		if !a.ref.exempt[a.q.Drug] {
			add(gate.Warn, ruleNoCode, textNoCode(code.Scheme))
		}
	} else {
		if away = a.answerItem(code, &answer, add); away == "" {
			away = a.away
		}
	}
	if away != "" {
		a.away = away
		add(gate.Warn, away, textsAway[away])
	}
	return answer
}

// answerItem looks at one box. It returns why the answer is degraded.
func (a *asker) answerItem(code schema.Code, answer *gate.CodeReply, add func(decision, rule, text string)) (away string) {
	known := a.ref.packs[code.Product]
	if code.Product != "" && known.drug != "" && a.q.Drug != "" && known.drug != a.q.Drug && !a.ref.exempts(ruleSubstituted, "code", code.Key, a.day) {
		add(gate.Stop, ruleSubstituted, textSubstituted)
	}
	if !code.Expires.IsZero() && code.Expires.Format(time.DateOnly) < a.day && !a.ref.exempts(ruleExpired, "code", code.Key, a.day) {
		add(gate.Stop, ruleExpired, fmt.Sprintf(textExpired, code.Expires.Format(time.DateOnly)))
	}
	if a.store == nil {
		return ""
	}
	l, err := a.store.find(code.Number(), &a.sale)
	if errors.Is(err, errLong) {
		a.long = true
		add(gate.Warn, ruleTooMany, textTooMany)
		return ""
	}
	if err != nil {
		a.hurt(err)
		return awayDamaged
	}
	l.pack, l.clone = known, a.clone
	for _, f := range l.would(a.sale) {
		entity := code.Key
		if f.rule == ruleReused {
			entity = f.sales[0].org + "/" + code.Key
		}
		if !a.ref.exempts(f.rule, "code", entity, a.day) {
			add(gate.Stop, f.rule, f.text(a.sale.org))
		}
	}
	if u := l.last(); u != nil {
		answer.Last = &gate.Last{Own: u.org == a.q.Org, Region: u.region, Time: time.UnixMilli(u.at).In(schema.Shanghai)}
		if answer.Last.Own {
			answer.Last.Org = u.org
		}
	}
	return ""
}
