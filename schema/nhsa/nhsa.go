// Package nhsa translates what pharmacies and hospitals send the national
// insurance (NHSA, 国家医保信息平台接口规范) into scan events of version 1, and
// words the answer they expect.
//
// It promises that every row of a message that can be read becomes an event the
// contract accepts, or a refusal with its bytes; that a retry gives events with
// the same ids and, but for the time it was sent, the same content; and that what
// one vendor spells one way and another another way gives the same events. It
// keeps nothing, asks nobody, and knows neither HTTP nor NATS.
//
// The mapping, field by field, is docs/nhsa.md.
package nhsa

import (
	"crypto/sha256"
	"encoding/json"
	"strings"
	"time"

	"yaosu/schema"
)

// A Call is one message of an institution.
type Call struct {
	Infno    string // as called, with its A where it is a batch
	MsgID    string // the sender's msgid, empty when it has none
	Org      string
	Region   string
	Sent     time.Time // inf_time; Received when the message does not say, or says later
	Received time.Time
	Rows     []Row
}

// A Row is a line of a Call: either an Event or a Refusal.
type Row struct {
	Raw     json.RawMessage  // as it came; in UTF-8 where the message was GBK
	Event   json.RawMessage  // one event of version 1, nil when refused
	Refusal *schema.Refusal  // Field is named as in the interface, Reason is Chinese
	names   map[field]string // by which the sender knows the row again
}

// Events returns the events of the rows that were not refused.
func (c *Call) Events() []json.RawMessage {
	var out []json.RawMessage
	for i := range c.Rows {
		if c.Rows[i].Event != nil {
			out = append(out, c.Rows[i].Event)
		}
	}
	return out
}

// A transaction is what an interface number stands for.
type transaction struct {
	node     string // name of its rows' node, for the answer
	kind     schema.Kind
	time     field
	dayDoes  bool // a day without an hour is a time
	quantity field
	price    field
	operator field
	doc      field
	rows     func(*translation, *pile)
}

// transactions are all that is taken, by number without the A.
var transactions = map[string]transaction{
	"3501": {node: "invinfo", kind: schema.StockTake, time: fInvDate, dayDoes: true, quantity: fInvCount, price: fInvPrice, rows: (*translation).goods},
	"3502": {node: "invinfo", kind: schema.StockIn, time: fChgTime, dayDoes: true, quantity: fCount, price: fInvPrice, operator: fChgOperator, rows: (*translation).goods},
	"3503": {node: "purcinfo", kind: schema.Purchase, time: fPurcTime, dayDoes: true, quantity: fPurcCount, price: fPrice, operator: fPurcOperator, doc: fDelivery, rows: (*translation).goods},
	"3504": {node: "purcinfo", kind: schema.PurchaseReturn, time: fPurcTime, dayDoes: true, quantity: fPurcCount, price: fPrice, operator: fPurcOperator, doc: fDelivery, rows: (*translation).goods},
	"3505": {node: "selinfo", kind: schema.Sale, time: fSaleTime, quantity: fSaleCount, price: fPrice, operator: fSaleOperator, doc: fReceipt, rows: (*translation).goods},
	"3506": {node: "selinfo", kind: schema.SaleReturn, time: fSaleTime, quantity: fSaleCount, price: fPrice, operator: fSaleOperator, doc: fReceipt, rows: (*translation).goods},
	"3507": {node: "good", kind: schema.Void, rows: (*translation).deletions},
	"2207": {node: "data", kind: schema.Sale, quantity: fCount, price: fInvPrice, rows: (*translation).settlement},
	"2103": {node: "data", kind: schema.Void, rows: (*translation).cancellations},
	"2208": {node: "data", kind: schema.Void, rows: (*translation).cancellations},
	"2305": {node: "data", kind: schema.Void, rows: (*translation).cancellations},
	"2601": {node: "data", kind: schema.Void, rows: (*translation).cancellations},
}

// base is an interface number without the A of a batch.
func base(infno string) string { return strings.TrimSuffix(infno, "A") }

// Takes tells whether messages of that interface number are translated.
func Takes(infno string) bool {
	_, ok := transactions[base(strings.ToUpper(trim(infno)))]
	return ok
}

// Translate reads one message. infno is the number it was called by, empty to
// go by the message's own. orgs are the institutions the caller may speak for,
// with their county, nil when anybody may speak: from it comes the county, which
// the envelope only sometimes has, and the institution of a message that names
// none where there is only one. It is not checked here that the sender may speak
// for Call.Org.
//
// An error is a *schema.Refusal of the whole message, worded in Chinese; the Call
// is never nil and holds what could be read, for the answer and the reject.
func Translate(infno string, body []byte, orgs map[string]string, received time.Time) (*Call, error) {
	c := &Call{Infno: strings.ToUpper(trim(infno)), Received: received, Sent: received}
	if refusal := translate(c, body, orgs); refusal != nil {
		c.Rows = nil
		return c, refusal
	}
	return c, nil
}

func translate(c *Call, body []byte, orgs map[string]string) *schema.Refusal {
	text, refusal := readText(body)
	if refusal != nil {
		return refusal
	}
	t := translation{call: c, seen: map[[sha256.Size]byte]int{}}
	message := unwrap(text)
	input := message
	if t.envelope.read(message) && t.envelope.has(fInput) {
		input = unwrap(t.envelope.at[fInput])
	}
	c.MsgID = t.envelope.text(fMsgID)
	if refusal := c.number(t.envelope.text(fInfno)); refusal != nil {
		return refusal
	}
	t.transaction = transactions[base(c.Infno)]
	// Nothing is sent after it was received: a clock that is ahead would have deletions
	// of tomorrow, which nobody believes, and uploads that no deletion of today reaches.
	if m, ok := readMoment(t.envelope.text(fInfTime)); ok && !m.dayOnly && m.at.Year() > 1 && m.at.Before(c.Received) {
		c.Sent = m.at
	}
	var rows pile
	rows.collect(input, 0)
	switch {
	case rows.over:
		return tooMany()
	case t.envelope.twice != fNone && t.envelope.twice < fTracInfo:
		return given(t.envelope.twice)
	case t.envelope.long != fNone && t.envelope.long < fInput:
		return tooLong(t.envelope.long)
	case rows.twice != fNone:
		return given(rows.twice)
	}
	t.input.read(input)
	if refusal := t.sender(&rows, orgs); refusal != nil {
		return refusal
	}
	if !rows.found && !rowLike(rows.rows) {
		return refuse(schema.RefuseMissing, fInput, "input 里没有"+t.transaction.node+"等明细节点，也没有明细字段")
	}
	if rows.found && len(rows.rows) == 0 {
		return refuse(schema.RefuseMissing, fInput, "明细节点是空的，没有可上传的行")
	}
	t.transaction.rows(&t, &rows)
	if t.over {
		return tooMany()
	}
	return nil
}

// number settles which interface is meant: by the door and by the message.
func (c *Call) number(own string) *schema.Refusal {
	own = strings.ToUpper(own)
	if c.Infno == "" || base(c.Infno) == base(own) && len(own) > len(c.Infno) {
		c.Infno = own
	}
	switch {
	case c.Infno == "":
		return refuse(schema.RefuseMissing, fInfno, "缺少交易编号 infno")
	case !Takes(c.Infno):
		return refuse(schema.RefuseValue, fInfno, "不受理这个交易编号。受理 3501 至 3507、3501A 至 3507A，以及 2207、2103、2208、2305、2601")
	case own != "" && base(own) != base(c.Infno):
		return refuse(schema.RefuseValue, fInfno, "报文里的 infno 与调用地址里的交易编号不一致")
	}
	return nil
}

// rowLike tells whether rows that lie in no node are rows at all.
func rowLike(rows [][]byte) bool {
	var r record
	for _, raw := range rows {
		r.read(raw)
		for f := fTracInfo; f < fieldCount; f++ {
			if r.has(f) {
				return true
			}
		}
	}
	return false
}

// sender finds out who speaks: by the envelope, else the input, else the rows,
// else by whom the caller may speak for.
func (t *translation) sender(rows *pile, orgs map[string]string) *schema.Refusal {
	c := t.call
	var row record
	if len(rows.rows) > 0 {
		row.read(rows.rows[0])
	}
	find := func(f field) string {
		for _, r := range [...]*record{&t.envelope, &t.input, &row} {
			if s := r.text(f); s != "" {
				return s
			}
		}
		return ""
	}
	c.Org = find(fOrg)
	if c.Org == "" && len(orgs) == 1 {
		for org := range orgs {
			c.Org = org
		}
	}
	if c.Org == "" {
		return refuse(schema.RefuseMissing, fOrg, "缺少定点医药机构编号 fixmedins_code")
	}
	c.Region = find(fOrgRegion)
	for _, next := range [...]string{orgs[c.Org], find(fCareRegion)} {
		if c.Region == "" {
			c.Region = next
		}
	}
	if c.Region == "" {
		return refuse(schema.RefuseMissing, fOrgRegion, "缺少机构所在区划：请给 fixmedins_admdvs，或 mdtrtarea_admvs")
	}
	// What the contract says of both is asked of the contract.
	probe := schema.Scan{EventID: "1", Kind: schema.StockTake, Time: c.Received, Org: c.Org, Region: c.Region}
	var read schema.Scan
	if why := read.DecodeJSON(probe.AppendJSON(nil)); why != nil {
		switch why.Field {
		case "org":
			c.Org = ""
			return refuse(why.Code, fOrg, "定点医药机构编号 fixmedins_code 应为 32 位以内的字母、数字")
		case "region":
			c.Region = ""
			return refuse(why.Code, fOrgRegion, "机构所在区划应为 6 位数字(fixmedins_admdvs 或 mdtrtarea_admvs)")
		}
	}
	return nil
}

// refuse words a refusal. text is a Chinese sentence without the full stop; it
// quotes no value, as any value may be a person's number.
func refuse(code string, f field, text string) *schema.Refusal {
	return &schema.Refusal{Code: code, Field: fieldNames[f].name, Reason: text}
}

func tooMany() *schema.Refusal {
	return refuse(schema.RefuseMessage, fNone, "一次超过 1 万行，请分批上传")
}

func tooLong(f field) *schema.Refusal {
	return refuse(schema.RefuseLength, f, f.label()+"过长")
}

func given(f field) *schema.Refusal {
	return refuse(schema.RefuseJSON, f, f.label()+"出现两次，内容不同")
}
