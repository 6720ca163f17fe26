package gate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"yaosu/schema"
)

// Refused keeps events that were refused, with their bytes and the reason. On nil
// all are durable. It is safe to call again with the same ones, and concurrently.
type Refused interface {
	Refuse(ctx context.Context, events []RefusedEvent) error
}

// RefusedEvent is one of them. Region and Org are empty where nobody said them.
type RefusedEvent struct {
	Region, Org string
	Raw         []byte
	Why         schema.Refusal
}

// What became of an event.
const (
	accepted  = "accepted"
	duplicate = "duplicate"
	rejected  = "rejected"
)

// scansAnswer is the answer of POST /v1/scans.
type scansAnswer struct {
	RequestID string        `json:"request_id"`
	Accepted  int           `json:"accepted"`
	Duplicate int           `json:"duplicate"`
	Rejected  int           `json:"rejected"`
	Results   []eventAnswer `json:"results"` // one for each event, in order
}

type eventAnswer struct {
	EventID string `json:"event_id"` // empty when it could not be read
	Status  string `json:"status"`
	Code    string `json:"code,omitempty"`   // of a rejected one, see docs/events.md
	Field   string `json:"field,omitempty"`  // at fault, where it is one
	Reason  string `json:"reason,omitempty"` // in Chinese
	Detail  string `json:"detail,omitempty"` // the same in English, more exactly
}

// intake is the events of one request on their way to the sink.
type intake struct {
	door    *door
	sender  *Sender
	results []eventAnswer
	refused []RefusedEvent
	shares  []*share
	byOrg   map[[2]string]*share // of shares, by region and org
	seen    map[uint64][]byte    // events of this request, by print
	prints  []uint64             // of accepted events
}

// share is the events of one institution.
type share struct {
	region, org string
	events      []json.RawMessage
}

func (d *door) takeScans(c *call) error {
	contentType, err := scanType(c.r.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	body, leave, err := d.load(c, true)
	if err != nil {
		return err
	}
	defer leave()
	in := d.newIntake(c.sender)
	if err := in.read(body, contentType); err != nil {
		return err
	}
	if err := in.store(c.r.Context()); err != nil {
		return err
	}
	return c.answer(http.StatusOK, in.answer(c.id))
}

// scanType is the content type as schema knows it. What says nothing of the
// content, such as what curl sends by itself, is looked into.
func scanType(header string) (string, error) {
	kind, _, _ := strings.Cut(header, ";")
	switch strings.ToLower(strings.TrimSpace(kind)) {
	case "application/json", "text/json":
		return schema.ContentJSON, nil
	case "application/x-ndjson", "application/ndjson", "application/jsonl":
		return schema.ContentNDJSON, nil
	case "", "text/plain", "application/octet-stream", "application/x-www-form-urlencoded":
		return "", nil
	}
	return "", &problem{code: problemType}
}

// refuseBody keeps a body that cannot be opened.
func (d *door) refuseBody(c *call, packed []byte) error {
	in := d.newIntake(c.sender)
	in.refuse(packed, &schema.Scan{}, schema.Refusal{Code: schema.RefuseMessage, Reason: errBroken.Error()})
	return in.store(c.r.Context())
}

func (d *door) newIntake(sender *Sender) *intake {
	return &intake{door: d, sender: sender, byOrg: map[[2]string]*share{}, seen: map[uint64][]byte{}}
}

// read sorts the events of body into those that go to the sink and those that do
// not. Nothing is stored yet, so that a request that is refused whole is.
func (in *intake) read(body []byte, contentType string) error {
	decoder := in.door.decoders.Get().(*schema.Decoder)
	defer in.door.decoders.Put(decoder)
	for event, why := range decoder.Events(body, contentType) {
		if len(in.results) == in.door.MaxEvents {
			return problemf(problemTooLarge, "每次最多上传 %d 条事件。", in.door.MaxEvents)
		}
		in.add(event.Raw, event.Scan, why)
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return problemf(problemRequest, "请求内容为空。")
	}
	if len(in.results) == 0 {
		return problemf(problemRequest, "请求中没有事件。")
	}
	return nil
}

// add takes one event, which was decoded to scan or refused for why.
func (in *intake) add(raw []byte, scan *schema.Scan, why *schema.Refusal) {
	switch {
	case why != nil:
		in.refuse(raw, scan, *why)
		return
	case !in.sender.May(scan.Org, scan.Region):
		in.refuse(raw, scan, *foreign(in.sender, scan.Org))
		return
	case len(raw) > maxEvent:
		in.refuse(raw, scan, schema.Refusal{Code: schema.RefuseLength, Reason: "the event is larger than a message may be"})
		return
	}
	result := eventAnswer{EventID: strings.Clone(scan.EventID), Status: accepted}
	sum := print(raw)
	switch before, again := in.seen[sum]; {
	case again && bytes.Equal(before, raw):
		result.Status = duplicate
		in.results = append(in.results, result)
		return // the other one is on its way
	case in.door.recent.has(sum):
		result.Status = duplicate // and stored again: what we remember may be wrong
	}
	in.seen[sum] = raw
	in.prints = append(in.prints, sum)
	in.results = append(in.results, result)
	key := [2]string{scan.Region, scan.Org}
	to := in.byOrg[key]
	if to == nil {
		to = &share{region: strings.Clone(scan.Region), org: strings.Clone(scan.Org)}
		in.byOrg[[2]string{to.region, to.org}] = to
		in.shares = append(in.shares, to)
	}
	to.events = append(to.events, raw)
}

// foreign is why an event of org is not taken from sender.
func foreign(sender *Sender, org string) *schema.Refusal {
	if sender.Orgs[org] != "" {
		return &schema.Refusal{Code: schema.RefuseForeign, Field: "region", Reason: "the credential of " + printable(sender.Name) + " stands for this org in another region"}
	}
	return &schema.Refusal{Code: schema.RefuseForeign, Field: "org", Reason: "the credential of " + printable(sender.Name) + " does not stand for this org"}
}

func (in *intake) refuse(raw []byte, scan *schema.Scan, why schema.Refusal) {
	in.results = append(in.results, eventAnswer{
		EventID: strings.Clone(scan.EventID),
		Status:  rejected,
		Code:    why.Code,
		Field:   why.Field,
		Reason:  sentence(why),
		Detail:  why.Reason,
	})
	if len(raw) == 0 {
		return // such as a bracket that is missing
	}
	event := RefusedEvent{Region: strings.Clone(scan.Region), Org: strings.Clone(scan.Org), Raw: raw, Why: why}
	if event.Org == "" && in.sender != nil && len(in.sender.Orgs) == 1 {
		for event.Org, event.Region = range in.sender.Orgs {
		}
	}
	in.refused = append(in.refused, event)
}

// storeTime bounds how long an answer waits for the sink: longer than an
// acknowledgement may take, and shorter than vendors wait for an answer.
const storeTime = 15 * time.Second

// fullPause is when to try again where there is no room: somebody has to make some.
const fullPause = 30 * time.Second

// storesAtOnce is how many institutions of one request are stored at a time.
const storesAtOnce = 64

// store returns nil when everything is durable.
func (in *intake) store(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(storesAtOnce)
	if len(in.refused) > 0 && in.door.Refused != nil {
		group.Go(func() error { return in.door.Refused.Refuse(ctx, in.refused) })
	}
	for _, share := range in.shares {
		group.Go(func() error { return in.door.Sink.Store(ctx, share.region, share.org, share.events) })
	}
	switch err := group.Wait(); {
	case errors.Is(err, ErrBusy):
		return &problem{code: problemBusy, retry: time.Second, cause: err}
	case errors.Is(err, ErrFull):
		return &problem{code: problemFull, retry: fullPause, cause: err}
	case err != nil:
		return &problem{code: problemStore, retry: time.Second, cause: err}
	}
	for _, sum := range in.prints {
		in.door.recent.add(sum)
	}
	in.door.metrics.count(in.results)
	return nil
}

func (in *intake) answer(id string) scansAnswer {
	a := scansAnswer{RequestID: id, Results: in.results}
	for _, r := range in.results {
		switch r.Status {
		case accepted:
			a.Accepted++
		case duplicate:
			a.Duplicate++
		case rejected:
			a.Rejected++
		}
	}
	return a
}

// printable is a name that may stand in a header.
func printable(name string) string {
	runes := []rune(name)
	runes = slices.DeleteFunc(runes, func(r rune) bool { return r < ' ' || r == 0x7F })
	return string(runes[:min(len(runes), 64)])
}
