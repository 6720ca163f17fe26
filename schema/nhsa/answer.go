package nhsa

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"yaosu/schema"
)

// An answer is the reply of the interface. Whether the message arrived stands in
// infcode, what became of it in output.result.
type answer struct {
	Infcode     string `json:"infcode"`
	RefMsgID    string `json:"inf_refmsgid"`
	RefMsgTime  string `json:"refmsg_time"`
	RespondTime string `json:"respond_time"`
	ErrMsg      string `json:"err_msg"`
	Output      output `json:"output"`
}

type output map[string]any

type result struct {
	RetRslt string `json:"retRslt"`
	MsgRslt string `json:"msgRslt"`
}

// The words of infcode and retRslt.
const (
	infOK     = "0"
	infFailed = "-1"
	resOK     = "1"
	resFailed = "0"
)

// longestMessage is how many characters msgRslt may have.
const longestMessage = 2000

// Answer is the reply to a call whose events are kept and whose refused rows are
// recorded. retRslt is 1 when every row was taken; otherwise msgRslt says which
// were not and why, and so does a list under the name the interface uses for its
// batches (selinfoErrDetail and the like), with the row's number and own keys. The
// sender mends those rows and may send all of them again.
func (c *Call) Answer(now time.Time) []byte {
	var refused []map[string]string
	var says strings.Builder
	for i := range c.Rows {
		row := &c.Rows[i]
		if row.Refusal == nil {
			continue
		}
		detail := map[string]string{"row_no": fmt.Sprint(i + 1), "retRslt": resFailed, "msgRslt": row.Refusal.Reason}
		for f, value := range row.names {
			detail[fieldNames[f].name] = value
		}
		refused = append(refused, detail)
		fmt.Fprintf(&says, "第%d行：%s。", i+1, row.Refusal.Reason)
	}
	out := output{"result": result{RetRslt: resOK}}
	switch {
	case len(c.Rows) == 0:
		out["result"] = result{RetRslt: resOK, MsgRslt: "没有追溯码，未记录"}
	case len(refused) > 0:
		text := says.String()
		if len(c.Rows) > 1 {
			text = fmt.Sprintf("共%d行，收下%d行，拒收%d行。", len(c.Rows), len(c.Rows)-len(refused), len(refused)) + text
		} else {
			text = refused[0]["msgRslt"]
		}
		out["result"] = result{RetRslt: resFailed, MsgRslt: firstChars(text, longestMessage)}
		out[transactions[base(c.Infno)].node+"ErrDetail"] = refused
	}
	return c.reply(infOK, "", out, now)
}

// Refuse is the reply when nothing of the call was kept: it could not be read,
// the sender may not speak for the institution, or the events could not be stored
// (then say so, and that it is to be sent again). why is for a pharmacist or
// the vendor, in Chinese.
func (c *Call) Refuse(why string, now time.Time) []byte {
	return c.reply(infFailed, firstChars(why, longestMessage), output{"result": result{RetRslt: resFailed, MsgRslt: firstChars(why, longestMessage)}}, now)
}

// Why words the error of Translate for Refuse.
func Why(err error) string {
	if refusal, ok := err.(*schema.Refusal); ok {
		return refusal.Reason
	}
	return "报文无法处理"
}

// reply has 17 digits in its times and 30 in its number: the region, the second,
// and ten digits that a message of its own gets.
func (c *Call) reply(infcode, message string, out output, now time.Time) []byte {
	const millis = "20060102150405.000"
	digits := func(t time.Time) string {
		return strings.Replace(t.In(schema.Shanghai).Format(millis), ".", "", 1)
	}
	h := fnv.New64a()
	h.Write([]byte(c.Org + "\x00" + c.MsgID + "\x00"))
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(c.Received.UnixNano())))
	region := c.Region
	if region == "" {
		region = "000000"
	}
	a := answer{
		Infcode:     infcode,
		RefMsgID:    region + digits(now)[:14] + fmt.Sprintf("%010d", h.Sum64()%1e10),
		RefMsgTime:  digits(c.Received),
		RespondTime: digits(now),
		ErrMsg:      message,
		Output:      out,
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(a); err != nil {
		// Texts and lists of texts: there is nothing that could not be written.
		panic(err)
	}
	return bytes.TrimSpace(b.Bytes())
}

// word says in Chinese, with the name of the interface, what the contract has
// against an event.
func (t *translation) word(why *schema.Refusal) *schema.Refusal {
	f := t.fieldBehind(why.Field)
	label := f.label()
	if f == fNone {
		label = "这一行"
	}
	var text string
	switch why.Code {
	case schema.RefuseLength:
		text = label + "过长"
		if max := longest[why.Field]; max > 0 {
			text += fmt.Sprintf("，最多 %d 个字符", max)
		}
	case schema.RefuseRange:
		text = label + "超出范围"
		switch why.Field {
		case "price", "fund_pay":
			text += "，不能小于 0"
		case "quantity", "days":
			text += "，四舍五入到 6 位小数后应大于 0"
		}
	case schema.RefuseFormat:
		text = label + "格式不对"
		if why.Field == "person_region" {
			text += "，应为 6 位数字"
		}
	case schema.RefuseMissing:
		text = "缺少" + label
	default:
		text = label + "不符合要求"
	}
	return &schema.Refusal{Code: why.Code, Field: fieldNames[f].name, Reason: text}
}

// longest is how many characters the contract gives the fields of an event.
var longest = map[string]int{
	"drug": 50, "lot": 30, "settlement": 30, "visit": 30, "person": 64, "doctor": 64, "doctor_id": 64, "pharmacist": 64,
	"pharmacist_id": 64, "operator": 64, "rx": 40, "doc": 50, "batch_no": 30, "supplier": 200, "reverses": 64,
}

// fieldBehind is the field of the interface that a field of the event was made of.
func (t *translation) fieldBehind(name string) field {
	x := &t.transaction
	switch name {
	case "time":
		return x.time
	case "quantity":
		return x.quantity
	case "price":
		return x.price
	case "operator":
		return x.operator
	case "doc":
		return x.doc
	}
	return behind[name]
}

var behind = map[string]field{
	"codes": fTracInfo, "drug": fDrug, "lot": fLot, "made": fMade, "expires": fExpires, "days": fDays, "settlement": fSettlement,
	"fund_pay": fFundPay, "visit": fVisit, "person": fPerson, "person_region": fPersonRegion, "doctor": fDoctor, "doctor_id": fDoctorID,
	"pharmacist": fPharmacist, "pharmacist_id": fPharmacistID, "rx": fRx, "batch_no": fBatchNo, "supplier": fSupplier, "reverses": fSaleNo,
}
