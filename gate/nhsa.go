package gate

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"yaosu/schema"
	"yaosu/schema/nhsa"
)

// headerProblem names the problem of an answer in the insurance's envelope, as
// that has no place for it.
const headerProblem = "X-Problem-Code"

// takeNHSA is POST /v1/nhsa/{infno}. Whatever happens is answered as the interface
// of the insurance answers: status 200, and infcode says.
func (d *door) takeNHSA(c *call) error {
	infno := c.r.PathValue("infno")
	if !nhsa.Takes(infno) {
		return problemf(problemNotFound, "不支持的交易编号,支持的交易见接口文档。")
	}
	body, leave, err := d.load(c, true)
	if err != nil {
		return err
	}
	defer leave()
	var orgs map[string]string // nil: of everybody
	if c.sender != nil {
		orgs = c.sender.Orgs
		if orgs == nil {
			orgs = map[string]string{}
		}
	}
	said, err := nhsa.Translate(infno, body, orgs, time.Now())
	in := d.newIntake(c.sender)
	if err == nil && !c.sender.May(said.Org, said.Region) {
		err = foreign(c.sender, said.Org)
	}
	if err != nil {
		var why *schema.Refusal
		if !errors.As(err, &why) {
			return err
		}
		in.refuse(body, &schema.Scan{Org: said.Org, Region: said.Region}, *why)
		if err := in.store(c.r.Context()); err != nil {
			return err
		}
		text := nhsa.Why(err)
		if why.Code == schema.RefuseForeign {
			text = sentence(*why)
		}
		return c.envelope(said.Refuse(text, time.Now()))
	}
	in.rows(said)
	if err := in.store(c.r.Context()); err != nil {
		return err
	}
	return c.envelope(said.Answer(time.Now()))
}

// rows adds the rows of a message.
func (in *intake) rows(said *nhsa.Call) {
	decoder := in.door.decoders.Get().(*schema.Decoder)
	defer in.door.decoders.Put(decoder)
	whose := &schema.Scan{Org: said.Org, Region: said.Region}
	for i := range said.Rows {
		row := &said.Rows[i]
		if row.Refusal != nil {
			in.refuse(row.Raw, whose, *row.Refusal)
			continue
		}
		scan, why := decoder.Decode(row.Event)
		in.add(row.Event, scan, why)
		if last := in.results[len(in.results)-1]; last.Status == rejected {
			// The answer is worded by what the row knows of itself.
			row.Refusal = &schema.Refusal{Code: last.Code, Reason: last.Reason}
		}
	}
}

// envelope answers with body.
func (c *call) envelope(body []byte) error {
	c.w.Header().Set("Content-Type", "application/json; charset=utf-8")
	c.w.Header().Set("Cache-Control", "no-store")
	c.w.WriteHeader(http.StatusOK)
	c.status = http.StatusOK
	_, _ = c.w.Write(body) // the client is gone, and there is nobody to tell
	return nil
}

// writeEnvelope answers with p as the insurance would.
func (p *problem) writeEnvelope(c *call) {
	text := p.detail
	if text == "" {
		text = problems[p.code].title + ":" + problems[p.code].detail
	}
	said := nhsa.Call{Infno: c.r.PathValue("infno"), Received: time.Now()}
	c.w.Header().Set(headerProblem, p.code)
	if p.retry > 0 {
		c.w.Header().Set("Retry-After", strconv.Itoa(p.retrySeconds()))
	}
	_ = c.envelope(said.Refuse(text, said.Received)) // it has no error
}
