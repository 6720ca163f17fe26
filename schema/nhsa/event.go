package nhsa

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"yaosu/schema"
)

// A translation is the work on one message.
type translation struct {
	call        *Call
	transaction transaction
	envelope    record
	input       record
	seen        map[[sha256.Size]byte]int // digests of rows without an item code, how often
	over        bool                      // whether there are more than MaxRows
	decoder     schema.Decoder
}

// A line is one row on its way to an event.
type line struct {
	record
	scan    schema.Scan
	refusal *schema.Refusal // the first

	// Both are the envelope's, which is another one on a retry: they are left out of
	// the id.
	timeOfCall, batchOfCall bool
}

func (l *line) refuse(code string, f field, text string) {
	if l.refusal == nil {
		l.refusal = refuse(code, f, text)
	}
}

// text returns what the first of fields says that says anything.
func (l *line) text(fields ...field) string {
	for _, f := range fields {
		if s := l.record.text(f); s != "" {
			return s
		}
		if l.has(f) {
			l.refuse(schema.RefuseType, f, f.label()+"应为字符串或数字")
		}
	}
	return ""
}

func (l *line) number(f field) schema.Number {
	s := l.text(f)
	if s == "" {
		return schema.Number{}
	}
	n, ok := schema.ParseNumber(s)
	if !ok {
		l.refuse(schema.RefuseFormat, f, f.label()+"不是数字，或整数部分超过 12 位")
	}
	return n
}

func (l *line) date(f field) time.Time {
	s := l.text(f)
	if s == "" {
		return time.Time{}
	}
	date, absent, ok := readDate(s, f == fExpires)
	if !ok {
		l.refuse(schema.RefuseFormat, f, f.label()+"不是日期，应为 yyyy-MM-dd")
	}
	if absent || !ok {
		return time.Time{}
	}
	return date
}

// moment reads a time that must be there.
func (l *line) moment(f field, dayDoes bool) time.Time {
	s := l.text(f)
	if s == "" {
		l.refuse(schema.RefuseMissing, f, "缺少"+f.label())
		return time.Time{}
	}
	m, ok := readMoment(s)
	switch {
	case !ok:
		l.refuse(schema.RefuseFormat, f, f.label()+"不是时间，应为 yyyy-MM-dd HH:mm:ss")
	case m.dayOnly && !dayDoes:
		l.refuse(schema.RefuseFormat, f, f.label()+"只有日期，缺时分秒；销售和退货先后要靠它判断，应为 yyyy-MM-dd HH:mm:ss")
	case m.at.Year() == 1:
		l.refuse(schema.RefuseMissing, f, "缺少"+f.label())
	}
	return m.at
}

// A choice is what a coded value may be.
type choice[T any] map[string]T

// choose returns what the code of f stands for. One that is not listed is
// refused when it must be known, else as good as absent.
func choose[T any](l *line, f field, must bool, from choice[T], words string) (out T) {
	s := strings.ToUpper(l.text(f))
	if s == "" {
		return out
	}
	out, known := from[s]
	if !known && must {
		l.refuse(schema.RefuseValue, f, f.label()+"不在取值范围内："+words)
	}
	return out
}

// What the coded fields say.
var (
	splits = choice[bool]{
		"0": false, "否": false, "N": false, "FALSE": false,
		"1": true, "是": true, "Y": true, "TRUE": true,
	}
	setlTypes   = choice[string]{"1": schema.PayInsured, "2": schema.PaySelf}
	feeTypes    = choice[string]{"0": schema.PaySelf, "1": schema.PayInsured, "2": schema.PayInsured}
	credentials = choice[string]{
		"1": schema.CredentialECard, "01": schema.CredentialECard,
		"2": schema.CredentialIDCard, "02": schema.CredentialIDCard,
		"3": schema.CredentialSSCard, "03": schema.CredentialSSCard,
	}
	// 101 调拨入库, 103 盘盈, 106 其他入库, 108 采购入库, 110 赠药入库; 102 调拨出库,
	// 104 盘损, 105 销毁, 107 其他出库, 109 退货出库, 111 赠药退回出库.
	changes = choice[schema.Kind]{
		"101": schema.StockIn, "103": schema.StockIn, "106": schema.StockIn, "108": schema.StockIn, "110": schema.StockIn,
		"102": schema.StockOut, "104": schema.StockOut, "105": schema.StockOut, "107": schema.StockOut, "109": schema.StockOut, "111": schema.StockOut,
	}
	dataTypes = choice[[]schema.Kind]{
		"1": {schema.StockTake},
		"2": {schema.StockIn, schema.StockOut},
		"3": {schema.Purchase, schema.PurchaseReturn},
		"4": {schema.Sale, schema.SaleReturn},
	}
)

// goods translates the rows of 3501 to 3506.
func (t *translation) goods(rows *pile) {
	codes, stray := shareOut(rows)
	for i, raw := range rows.rows {
		l := line{}
		if !l.read(raw) {
			t.keep(&l, raw, refuse(schema.RefuseType, fNone, "这一行不是 JSON 对象"))
			continue
		}
		t.common(&l)
		l.codes(l.at[fTracInfo], l.at[fTracCodg], l.at[fTracCode])
		l.codes(codes[i]...)
		t.good(&l)
		t.keep(&l, raw, nil)
	}
	t.keepStray(stray)
}

// keepStray refuses codes that belong to no row, all in one.
func (t *translation) keepStray(stray [][]byte) {
	if len(stray) > 0 {
		t.keep(&line{}, list(stray), refuse(schema.RefuseCodes, fTracInfo, "追溯码在明细之外，无法确定属于哪一行，请放进各行的 drugtracinfo"))
	}
}

// list is the JSON array of values, a single one as it is.
func list(values [][]byte) []byte {
	if len(values) == 1 {
		return values[0]
	}
	return slices.Concat([]byte{'['}, bytes.Join(values, []byte{','}), []byte{']'})
}

// common fills in what all rows that move goods have.
func (t *translation) common(l *line) {
	s := &l.scan
	s.Kind = t.transaction.kind
	s.Device = firstChars(t.envelope.text(fDevice), 64)
	s.PersonRegion = l.text(fPersonRegion)
	if s.PersonRegion == "" {
		s.PersonRegion = t.envelope.text(fPersonRegion)
	}
	s.Drug = l.text(fDrug)
	s.Lot = l.text(fLot)
	s.Made = l.date(fMade)
	s.Expires = l.date(fExpires)
	s.Split = choose(l, fSplit, true, splits, "0 否、1 是")
	s.BatchNo = l.text(fBatchNo)
	if org := l.text(fOrg); org != "" && org != t.call.Org {
		l.refuse(schema.RefuseValue, fOrg, "这一行的 fixmedins_code 与报文头不一致")
	}
}

// good fills in what depends on the interface.
func (t *translation) good(l *line) {
	s, x := &l.scan, &t.transaction
	s.Time = l.moment(x.time, x.dayDoes)
	s.Price = l.number(x.price)
	s.Operator = l.text(x.operator)
	s.Doc = l.text(x.doc)
	switch base(t.call.Infno) {
	case "3502":
		if s.Kind = choose(l, fChgType, true, changes, "101 至 111"); s.Kind == "" {
			l.refuse(schema.RefuseMissing, fChgType, "缺少"+fChgType.label()+"，无法判断入库还是出库")
			s.Kind = schema.StockIn
		}
	case "3503", "3504":
		s.Supplier = l.text(fSupplier)
	case "3505", "3506":
		t.patient(l)
		s.Reverses = l.text(fSaleNo)
	}
	t.count(l)
	if s.Kind != schema.SaleReturn {
		s.Reverses = ""
	}
	if s.Kind != schema.Sale && s.Kind != schema.SaleReturn {
		s.PersonRegion = ""
	}
}

// count fills in the quantity. A negative one on a sale or purchase is a return,
// as hospitals book it (退费: cnt below 0, with init_feedetl_sn); on a return it
// is a manner of writing.
func (t *translation) count(l *line) {
	s, f := &l.scan, t.transaction.quantity
	n := l.number(f)
	if n.Known && n.Micro < 0 {
		switch s.Kind {
		case schema.Sale:
			s.Kind = schema.SaleReturn
			if of := l.text(fInitFeeNo); of != "" {
				s.Reverses = of
			}
		case schema.Purchase:
			s.Kind = schema.PurchaseReturn
		case schema.SaleReturn, schema.PurchaseReturn:
		default:
			l.refuse(schema.RefuseRange, f, f.label()+"不能小于 0：入库还是出库由 inv_chg_type 表示")
		}
		n.Micro = -n.Micro
	}
	if n.Known && n.Micro == 0 {
		// Nothing left on the shelf is what a stock list may well say; the contract has
		// no word for it but silence.
		if s.Kind != schema.StockTake {
			l.refuse(schema.RefuseRange, f, f.label()+"不能为 0")
		}
		n = schema.Number{}
	}
	s.Quantity = n
}

// patient fills in who bought, who prescribed and who pays.
func (t *translation) patient(l *line) {
	s := &l.scan
	s.Settlement = l.text(fSettlement)
	s.Visit = l.text(fVisit, fMdtrtID)
	s.Person = l.text(fPerson)
	s.Credential = choose(l, fCredential, false, credentials, "")
	s.Doctor = l.text(fDoctor, fBillDoctor)
	s.DoctorID = l.text(fDoctorID, fBillDoctorID)
	s.Pharmacist = l.text(fPharmacist)
	s.PharmacistID = l.text(fPharmacistID)
	s.Rx = l.text(fRx)
	s.Days = l.number(fDays)
	if s.Days.Micro == 0 {
		s.Days = schema.Number{} // 0 stands for not known
	}
	s.FundPay = l.number(fFundPay)
	s.Pay = choose(l, fSetlType, false, setlTypes, "")
	if s.Pay == "" {
		s.Pay = choose(l, fFeeType, false, feeTypes, "")
	}
	s.Setting = t.setting(l.text(fMedType))
}

// setting is where care was given: med_type says it, else the institution's
// type or the letter its number begins with (P a pharmacy; H is any hospital).
func (t *translation) setting(medType string) string {
	switch {
	case strings.HasPrefix(medType, "1"), medType == "51":
		return schema.SettingOutpatient
	case strings.HasPrefix(medType, "2"), medType == "52":
		return schema.SettingInpatient
	case strings.HasPrefix(medType, "4"):
		return schema.SettingPharmacy
	case t.envelope.text(fOrgType) == "2", strings.HasPrefix(t.call.Org, "P"):
		return schema.SettingPharmacy
	}
	return ""
}

// deletions translates 3507: what was uploaded under a number never happened.
func (t *translation) deletions(rows *pile) {
	for _, raw := range rows.rows {
		l := line{}
		if !l.read(raw) {
			t.keep(&l, raw, refuse(schema.RefuseType, fNone, "这一行不是 JSON 对象"))
			continue
		}
		s := &l.scan
		s.Kind, s.Time, l.timeOfCall = schema.Void, t.call.Sent, true
		if s.BatchNo = l.text(fBatchNo); s.BatchNo == "" {
			l.refuse(schema.RefuseMissing, fBatchNo, "缺少"+fBatchNo.label()+"，不知道删除哪一批")
		}
		if s.VoidKinds = choose(&l, fDataType, true, dataTypes, "1 盘存、2 库存变更、3 采购、4 销售"); len(s.VoidKinds) == 0 {
			l.refuse(schema.RefuseMissing, fDataType, "缺少"+fDataType.label()+"，不知道删除哪一类")
		}
		t.keep(&l, raw, nil)
	}
}

// cancellations translates what takes a settlement back: 2103, 2208 and 2305 by
// the settlement, 2601 by the message that settled. A sale that came in as 2207
// has the number of its message as batch_no, so that a 2601 finds it.
func (t *translation) cancellations(rows *pile) {
	for _, raw := range rows.rows {
		l := line{}
		if !l.read(raw) {
			t.keep(&l, raw, refuse(schema.RefuseType, fNone, "这一行不是 JSON 对象"))
			continue
		}
		s := &l.scan
		s.Kind, s.Time, l.timeOfCall = schema.Void, t.call.Sent, true
		s.VoidKinds = []schema.Kind{schema.Sale}
		s.Settlement = l.text(fSettlement)
		if base(t.call.Infno) == "2601" {
			s.BatchNo = l.text(fOldMsgID)
			switch l.text(fOldInfno) {
			case "", "2102", "2207", "2304":
			case "2401":
				continue // an admission: no box was sold by it
			case "2103", "2208", "2305":
				l.refuse(schema.RefuseValue, fOldInfno, "冲正的是一笔撤销，原结算又成立：请重新上传原销售(3505)")
			default:
				l.refuse(schema.RefuseValue, fOldInfno, fOldInfno.label()+"不在取值范围内：2102、2207、2304、2103、2208、2305、2401")
			}
			if s.Settlement == "" && s.BatchNo == "" {
				l.refuse(schema.RefuseMissing, fOldMsgID, "缺少"+fOldMsgID.label()+"和 setl_id，不知道冲正哪一笔")
			}
		} else if s.Settlement == "" {
			l.refuse(schema.RefuseMissing, fSettlement, "缺少"+fSettlement.label()+"，不知道撤销哪一笔结算")
		}
		t.keep(&l, raw, nil)
	}
}

// keep makes the row of a line: its event if the contract accepts it.
func (t *translation) keep(l *line, raw []byte, refusal *schema.Refusal) {
	row := Row{Raw: raw, Refusal: refusal}
	if row.Refusal == nil && l.twice != fNone {
		row.Refusal = given(l.twice)
	}
	if row.Refusal == nil && l.long != fNone {
		row.Refusal = tooLong(l.long)
	}
	if row.Refusal == nil {
		row.Refusal = l.refusal
	}
	if row.Refusal == nil {
		row.Event, row.Refusal = t.event(l)
	}
	if row.Refusal != nil {
		row.Event = nil
		row.names = map[field]string{}
		for _, f := range [...]field{fDrug, fListID, fBatchNo, fChgType, fFeeNo} {
			if s := l.record.text(f); s != "" {
				row.names[f] = s
			}
		}
	}
	t.call.Rows = append(t.call.Rows, row)
}

// event finishes the scan and asks the contract whether it will do.
func (t *translation) event(l *line) (json.RawMessage, *schema.Refusal) {
	s := &l.scan
	s.Org, s.Region = t.call.Org, t.call.Region
	switch s.Kind {
	case schema.Sale, schema.SaleReturn:
		if len(s.Codes) == 0 {
			return nil, refuse(schema.RefuseCodes, fTracInfo, "没有追溯码；确实无码的药品请在 drug_trac_codg 填“无码”")
		}
	}
	if len(s.Codes) > schema.MaxCodes {
		return nil, refuse(schema.RefuseCodes, fTracInfo, "一行超过 "+strconv.Itoa(schema.MaxCodes)+" 个追溯码，请分行上传")
	}
	s.EventID = t.eventID(l)
	s.Sent = t.call.Sent
	event := s.AppendJSON(nil)
	if _, why := t.decoder.Decode(event); why != nil {
		return nil, t.word(why)
	}
	return event, nil
}

// eventID names the event: by the interface, the sender's own key where it can
// be read, and a digest of the content. A retry has the same; a correction has
// another; a number that is used again for something else collides with nothing.
//
// Left out of the digest: msgid, inf_time and whatever else of the envelope a
// retry has anew, and the person: an id is read by those who may not know the
// person, who could try numbers out until the digest fits. Lines without an item
// code that are otherwise equal (two boxes without a code, two lines of a delivery
// note) are numbered within the message; a box that stands twice is one box.
func (t *translation) eventID(l *line) string {
	content := l.scan
	content.EventID, content.Sent, content.Person = "", time.Time{}, ""
	if l.timeOfCall {
		content.Time = time.Time{}
	}
	if l.batchOfCall {
		content.BatchNo = ""
	}
	content.Codes = slices.Sorted(slices.Values(content.Codes))
	number := base(t.call.Infno)
	var b []byte
	for _, part := range [...]string{
		number,
		l.record.text(fListID), l.record.text(fMedinsList), l.record.text(fFeeNo), l.record.text(fInitFeeNo), l.record.text(fChgType),
		l.record.text(fOldMsgID),
	} {
		b = append(append(b, part...), 0)
	}
	b = content.AppendJSON(b)
	sum := sha256.Sum256(b)
	if l.scan.Kind != schema.Void && !slices.ContainsFunc(content.Codes, func(code string) bool { return isItem(code, l.scan.Drug) }) {
		if n := t.seen[sum]; n > 0 {
			t.seen[sum]++
			sum = sha256.Sum256(strconv.AppendInt(b, int64(n), 10))
		} else {
			t.seen[sum] = 1
		}
	}
	id := number
	key := cmp.Or(l.record.text(fFeeNo), l.scan.BatchNo, l.scan.Settlement)
	if l.batchOfCall {
		key = l.record.text(fFeeNo)
	}
	if readable(key) {
		id += "." + key
	}
	return id + "." + strings.ToLower(digestText.EncodeToString(sum[:16]))
}

var digestText = base32.StdEncoding.WithPadding(base32.NoPadding)

// readable tells whether a key may stand in an id.
func readable(key string) bool {
	if key == "" || len(key) > 30 {
		return false
	}
	for _, c := range []byte(key) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

// codes adds the codes that values hold. The same box in two of them (vendors
// fill the old flat field beside the node) is added once.
func (l *line) codes(values ...[]byte) {
	for _, value := range values {
		if value == nil {
			continue
		}
		before := len(l.scan.Codes)
		l.gather(value, 0)
		added := l.scan.Codes[before:]
		kept := slices.DeleteFunc(added, func(code string) bool { return slices.Contains(l.scan.Codes[:before], code) })
		l.scan.Codes = l.scan.Codes[:before+len(kept)]
	}
}

func (l *line) gather(value []byte, depth int) {
	value = unwrap(value)
	switch {
	case depth > maxNesting:
		l.refuse(schema.RefuseCodes, fTracInfo, "溯源码节点嵌套过深")
	case len(value) > 0 && value[0] == '[':
		elements(value, func(element []byte) bool {
			l.gather(element, depth+1)
			return len(l.scan.Codes) <= schema.MaxCodes
		})
	case len(value) > 0 && value[0] == '{':
		named, members := false, 0
		each(value, func(name, inner []byte) {
			members++
			switch fieldOf(name) {
			case fTracInfo, fTracCodg, fTracCode:
				named = true
				l.gather(inner, depth+1)
			}
		})
		if !named && members > 0 {
			l.refuse(schema.RefuseCodes, fTracInfo, "溯源码节点里没有 drug_trac_codg")
		}
	default:
		if s, _ := text(value); s != "" {
			l.scan.Codes = append(l.scan.Codes, splitCodes(s, max(schema.MaxCodes+1-len(l.scan.Codes), 0))...)
		}
	}
}

// rowKeys are the fields by which a code beside the rows may say whose it is.
var rowKeys = [...]field{fFeeNo, fBatchNo, fListID, fMedinsList, fDrug, fReceipt}

// shareOut finds the rows that codes beside the rows belong to: the only one;
// or the only one that has all the keys which stand with the code. What belongs
// nowhere is stray.
func shareOut(rows *pile) (codes [][][]byte, stray [][]byte) {
	codes = make([][][]byte, len(rows.rows))
	switch {
	case len(rows.beside) == 0:
		return codes, nil
	case len(rows.rows) == 1:
		codes[0] = rows.beside
		return codes, nil
	}
	type keys [len(rowKeys)]string
	type name struct {
		key   int
		value string
	}
	has := make([]keys, len(rows.rows))
	found := map[name][]int{}
	var r record
	for i, raw := range rows.rows {
		if !r.read(raw) {
			continue
		}
		for k, f := range rowKeys {
			if has[i][k] = r.text(f); has[i][k] != "" {
				at := name{k, has[i][k]}
				found[at] = append(found[at], i)
			}
		}
	}
	// owner returns the only row that has all keys of want, -1 without.
	owner := func(want keys) int {
		var few []int
		for k, value := range want {
			if these := found[name{k, value}]; value != "" && (few == nil || len(these) < len(few)) {
				few = these
			}
			if value != "" && few == nil {
				return -1
			}
		}
		// Rows that are alike in all keys are not told apart by looking at more of them.
		const enough = 64
		only := -1
		for _, i := range few[:min(len(few), enough)] {
			fits := true
			for k, value := range want {
				fits = fits && (value == "" || has[i][k] == value)
			}
			switch {
			case fits && only >= 0:
				return -1
			case fits:
				only = i
			}
		}
		if len(few) > enough {
			return -1
		}
		return only
	}
	for _, value := range rows.beside {
		elements(unwrap(value), func(element []byte) bool {
			element = unwrap(element)
			if saysNothing(element, true) {
				return true
			}
			var want keys
			if r.read(element) {
				for k, f := range rowKeys {
					want[k] = r.text(f)
				}
			}
			if i := owner(want); i >= 0 {
				codes[i] = append(codes[i], element)
			} else {
				stray = append(stray, element)
			}
			return true
		})
	}
	return codes, stray
}

// firstChars cuts a device number that the interface allows and the contract does not.
func firstChars(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}
