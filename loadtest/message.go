package loadtest

import (
	"bytes"
	"fmt"
	"iter"

	"yaosu/scanner"
	"yaosu/schema"
)

// Format is the form of the messages.
type Format string

const (
	JSON      Format = "json"       // one event a line; alone, an event is an object
	Arrow     Format = "arrow"      // a message is an Arrow stream, text as it is
	ArrowDict Format = "arrow-dict" // the same, words that repeat in dictionaries
)

// PerMessage is how many events of a format usually share a message.
func (f Format) PerMessage() int {
	if f == JSON {
		return 500
	}
	return 10_000
}

// Where messages that mix institutions come from: a wholesale sender.
const (
	mixedRegion = "000000"
	mixedOrg    = "loadtest"
)

// Message is a message of SCANS.
type Message struct {
	scanner.Message

	// Probe is one of its events, the zero value when it has none to look for.
	Probe Probe
}

// Messages packs the events of All, in their order, so many a message.
func (t *Traffic) Messages(format Format, events int) iter.Seq2[*Message, error] {
	p := &packer{format: format, events: events}
	return func(yield func(*Message, error) bool) {
		for event := range t.All() {
			m, err := p.add(event)
			if err != nil || m != nil {
				if !yield(m, err) || err != nil {
					return
				}
			}
		}
		if p.count > 0 {
			yield(p.close())
		}
	}
}

// packer fills one message after the other.
type packer struct {
	format Format
	events int

	count  int
	origin [2]string // of the first event
	body   []byte
	scans  []schema.Scan // in the place of body, for Arrow
	probe  Event         // the last event that can be looked for
	full   int           // bytes of the largest body so far
}

func (p *packer) add(e *Event) (*Message, error) {
	if p.count == 0 {
		p.origin[0], p.origin[1] = e.Origin()
		p.probe = Event{}
	}
	if p.format != JSON {
		p.scans = append(p.scans, e.Scan())
	} else {
		if p.body == nil {
			p.body = make([]byte, 0, p.full+p.full/8)
		}
		p.body = e.AppendJSON(p.body)
		if p.events > 1 {
			p.body = append(p.body, '\n')
		}
	}
	p.count++
	if e.Bad == "" && !e.Again && e.own == nil && e.from.facts[e.at].national {
		p.probe = *e
	}
	if p.count < p.events {
		return nil, nil
	}
	return p.close()
}

func (p *packer) close() (*Message, error) {
	m := &Message{Message: scanner.Message{Region: mixedRegion, Org: mixedOrg, ContentType: schema.ContentNDJSON, Events: p.count}}
	if p.events == 1 {
		m.Region, m.Org, m.ContentType = p.origin[0], p.origin[1], schema.ContentJSON
	}
	if p.format != JSON {
		body := bytes.NewBuffer(make([]byte, 0, p.full+p.full/8))
		if err := schema.WriteArrow(body, p.scans, schema.ArrowOptions{Dictionary: p.format == ArrowDict}); err != nil {
			return nil, fmt.Errorf("write %d events as Arrow: %w", p.count, err)
		}
		p.body = body.Bytes()
		m.ContentType = schema.ContentArrow
		clear(p.scans)
		p.scans = p.scans[:0]
	}
	m.Body = p.body
	if p.probe.from != nil {
		m.Probe, _ = p.probe.Probe()
	}
	p.full = max(p.full, len(p.body))
	p.count, p.body = 0, nil
	return m, nil
}
