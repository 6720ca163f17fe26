package nhsa

import (
	"cmp"

	"yaosu/schema"
)

// A feeLine is the codes of one line of a bill, as 2207 has them.
type feeLine struct {
	record          // of the code and of the line of the bill, where it is in the message
	codes  [][]byte // the elements of drug_trac_info
}

// settlement translates 2207, which has codes by line of the bill: feedetl_sn,
// drug_trac_codg, trdn_flag. Product and quantity stand in the bill, which was
// uploaded before (2204); they are taken when the vendor passes it on too, as
// feedetail. Without codes there is nothing to take.
func (t *translation) settlement(rows *pile) {
	beside := rows.beside
	bills := [][]byte{t.input.at[fFeeDetail], t.input.at[fDrugDetail]}
	switch {
	case !rows.found:
		bills = nil // the head is the input
	case len(rows.rows) > 1:
		t.keepStray(beside)
		for _, bill := range bills {
			if bill != nil {
				t.keep(&line{}, bill, refuse(schema.RefuseMessage, fFeeDetail, "费用明细在 data 之外，无法确定属于哪一个 data，请放进各自的 data"))
			}
		}
		beside, bills = nil, nil
	}
	for _, raw := range rows.rows {
		var head record
		if !head.read(raw) {
			t.keep(&line{}, raw, refuse(schema.RefuseType, fNone, "data 不是 JSON 对象"))
			continue
		}
		bills := append([][]byte{head.at[fFeeDetail], head.at[fDrugDetail]}, bills...)
		lists := append([][]byte{head.at[fTracInfo], head.at[fTracCodg], head.at[fTracCode]}, beside...)
		head.fill(&t.input)
		for _, of := range [...]*record{&head, &t.input, &t.envelope} {
			var out, done record
			out.read(unwrap(of.at[fOutput]))
			for _, value := range [...][]byte{of.at[fDrugInfo], of.at[fSetlInfo], out.at[fSetlInfo]} {
				done.read(unwrap(value))
				head.fill(&done)
			}
		}
		// What the fund paid for the whole bill says nothing of a line.
		head.at[fFundPay] = nil
		lines, over := feeLines(bills, lists)
		if over || len(t.call.Rows)+len(lines) > MaxRows {
			t.over = true
			return
		}
		for i := range lines {
			t.feeLine(&head, &lines[i])
		}
	}
}

// fill takes from another record what r does not say.
func (r *record) fill(from *record) {
	for f := fTracInfo; f < fieldCount; f++ {
		if r.at[f] == nil {
			r.at[f] = from.at[f]
		}
	}
	r.twice = cmp.Or(r.twice, from.twice)
	r.long = cmp.Or(r.long, from.long)
}

// feeLines brings together codes and lines of the bill. Codes with one
// feedetl_sn and one trdn_flag are one line; a code without either is its own.
// It is over when there are more than MaxRows lines.
func feeLines(bills, lists [][]byte) (lines []feeLine, over bool) {
	type name struct{ fee, split string }
	at := map[name]int{}           // of lines
	billed := map[string]*record{} // the line of the bill, by feedetl_sn
	add := func(element []byte, bill *record) {
		var r record
		if !r.read(element) && bill == nil && len(lines) < MaxRows {
			lines = append(lines, feeLine{codes: [][]byte{element}})
			return
		}
		if bill != nil {
			r.fill(bill)
		}
		fee := r.text(fFeeNo)
		n := name{fee, r.text(fSplit)}
		i, known := at[n]
		if !known || fee == "" {
			if len(lines) == MaxRows {
				over = true
				return
			}
			i = len(lines)
			at[n] = i
			lines = append(lines, feeLine{record: r})
			if of := billed[fee]; bill == nil && of != nil {
				lines[i].fill(of)
			}
		}
		lines[i].codes = append(lines[i].codes, element)
	}
	for _, bill := range bills {
		elements(unwrap(bill), func(raw []byte) bool {
			r := new(record)
			if !r.read(unwrap(raw)) {
				return true
			}
			var codes [][]byte
			for _, f := range [...]field{fTracInfo, fTracCodg, fTracCode} {
				codes, r.at[f] = append(codes, r.at[f]), nil
			}
			if fee := r.text(fFeeNo); fee != "" {
				billed[fee] = r
				over = len(billed) > MaxRows
			}
			for _, value := range codes {
				if value != nil && !over {
					elements(unwrap(value), func(element []byte) bool {
						add(unwrap(element), r)
						return !over
					})
				}
			}
			return !over
		})
	}
	for _, codes := range lists {
		elements(unwrap(codes), func(element []byte) bool {
			if element = unwrap(element); len(element) > 0 && !saysNothing(element, true) {
				add(element, nil)
			}
			return !over
		})
	}
	return lines, over
}

// feeLine makes the event of one line.
func (t *translation) feeLine(head *record, of *feeLine) {
	l := line{record: of.record}
	l.fill(head)
	t.common(&l)
	t.patient(&l)
	s := &l.scan
	switch {
	case l.has(fSetlTime):
		s.Time = l.moment(fSetlTime, false)
	case l.has(fFeeTime):
		s.Time = l.moment(fFeeTime, false)
	default:
		// 2207 is sent while the patient stands at the desk.
		s.Time, l.timeOfCall = t.call.Sent, true
	}
	s.Price = l.number(fInvPrice)
	t.count(&l)
	if s.Pay == "" {
		s.Pay = schema.PayInsured
	}
	if s.Setting == "" {
		s.Setting = schema.SettingOutpatient
	}
	if s.BatchNo == "" && len(t.call.MsgID) <= 30 {
		s.BatchNo, l.batchOfCall = t.call.MsgID, true
	}
	l.codes(list(of.codes))
	t.keep(&l, list(of.codes), nil)
}
