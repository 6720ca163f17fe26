package schema

import (
	"errors"
	"io"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/go-faster/jx"
)

// A member is one field of a scan event. The order is the contract's; required
// fields are looked for in it.
type member uint8

const (
	fEventID member = iota
	fKind
	fTime
	fSent
	fOrg
	fRegion
	fCodes
	fDevice
	fDrug
	fLot
	fMade
	fExpires
	fSplit
	fQuantity
	fPrice
	fDays
	fPay
	fSettlement
	fFundPay
	fVisit
	fPerson
	fPersonRegion
	fCredential
	fSetting
	fDoctor
	fDoctorID
	fPharmacist
	fPharmacistID
	fOperator
	fRx
	fDoc
	fBatchNo
	fSupplier
	fReverses
	fVoidKind
	memberCount
	fUnknown = memberCount
)

// A form is how the value of a field is read and checked.
type form uint8

const (
	formText form = iota // a string of at most max characters
	formID               // a string of at most max printable ASCII characters
	formOrg
	formRegion
	formEnum // from here on no field of Scan holds the text itself
	formTime
	formDate
	formBool
	formAbove0 // a number > 0
	formFrom0  // a number ≥ 0
	formCodes
	formKinds

	lastText = formRegion
)

// members says of each field what it is called on the wire and what it may hold.
var members = [memberCount]struct {
	name string
	form form
	max  int
}{
	fEventID:      {"event_id", formID, 64},
	fKind:         {"kind", formEnum, 0},
	fTime:         {"time", formTime, 0},
	fSent:         {"sent", formTime, 0},
	fOrg:          {"org", formOrg, 32},
	fRegion:       {"region", formRegion, 6},
	fCodes:        {"codes", formCodes, 0},
	fDevice:       {"device", formText, 64},
	fDrug:         {"drug", formText, 50},
	fLot:          {"lot", formText, 30},
	fMade:         {"made", formDate, 0},
	fExpires:      {"expires", formDate, 0},
	fSplit:        {"split", formBool, 0},
	fQuantity:     {"quantity", formAbove0, 0},
	fPrice:        {"price", formFrom0, 0},
	fDays:         {"days", formAbove0, 0},
	fPay:          {"pay", formEnum, 0},
	fSettlement:   {"settlement", formText, 30},
	fFundPay:      {"fund_pay", formFrom0, 0},
	fVisit:        {"visit", formText, 30},
	fPerson:       {"person", formText, 64},
	fPersonRegion: {"person_region", formRegion, 6},
	fCredential:   {"credential", formEnum, 0},
	fSetting:      {"setting", formEnum, 0},
	fDoctor:       {"doctor", formText, 64},
	fDoctorID:     {"doctor_id", formText, 64},
	fPharmacist:   {"pharmacist", formText, 64},
	fPharmacistID: {"pharmacist_id", formText, 64},
	fOperator:     {"operator", formText, 64},
	fRx:           {"rx", formText, 40},
	fDoc:          {"doc", formText, 50},
	fBatchNo:      {"batch_no", formText, 30},
	fSupplier:     {"supplier", formText, 200},
	fReverses:     {"reverses", formText, 64},
	fVoidKind:     {"void_kind", formKinds, 0},
}

// memberOf finds a field by its wire name. A switch, as the compiler makes a
// search without hashing of it and the key stays a byte slice.
func memberOf(name []byte) member {
	switch string(name) {
	case "event_id":
		return fEventID
	case "kind":
		return fKind
	case "time":
		return fTime
	case "sent":
		return fSent
	case "org":
		return fOrg
	case "region":
		return fRegion
	case "codes":
		return fCodes
	case "device":
		return fDevice
	case "drug":
		return fDrug
	case "lot":
		return fLot
	case "made":
		return fMade
	case "expires":
		return fExpires
	case "split":
		return fSplit
	case "quantity":
		return fQuantity
	case "price":
		return fPrice
	case "days":
		return fDays
	case "pay":
		return fPay
	case "settlement":
		return fSettlement
	case "fund_pay":
		return fFundPay
	case "visit":
		return fVisit
	case "person":
		return fPerson
	case "person_region":
		return fPersonRegion
	case "credential":
		return fCredential
	case "setting":
		return fSetting
	case "doctor":
		return fDoctor
	case "doctor_id":
		return fDoctorID
	case "pharmacist":
		return fPharmacist
	case "pharmacist_id":
		return fPharmacistID
	case "operator":
		return fOperator
	case "rx":
		return fRx
	case "doc":
		return fDoc
	case "batch_no":
		return fBatchNo
	case "supplier":
		return fSupplier
	case "reverses":
		return fReverses
	case "void_kind":
		return fVoidKind
	}
	return fUnknown
}

// textAt says where in a Scan a field lives that is kept as text. An offset, as
// a switch over all fields costs a tenth of reading an event.
var textAt = [memberCount]uintptr{
	fEventID:      unsafe.Offsetof(Scan{}.EventID),
	fOrg:          unsafe.Offsetof(Scan{}.Org),
	fRegion:       unsafe.Offsetof(Scan{}.Region),
	fDevice:       unsafe.Offsetof(Scan{}.Device),
	fDrug:         unsafe.Offsetof(Scan{}.Drug),
	fLot:          unsafe.Offsetof(Scan{}.Lot),
	fSettlement:   unsafe.Offsetof(Scan{}.Settlement),
	fVisit:        unsafe.Offsetof(Scan{}.Visit),
	fPerson:       unsafe.Offsetof(Scan{}.Person),
	fPersonRegion: unsafe.Offsetof(Scan{}.PersonRegion),
	fDoctor:       unsafe.Offsetof(Scan{}.Doctor),
	fDoctorID:     unsafe.Offsetof(Scan{}.DoctorID),
	fPharmacist:   unsafe.Offsetof(Scan{}.Pharmacist),
	fPharmacistID: unsafe.Offsetof(Scan{}.PharmacistID),
	fOperator:     unsafe.Offsetof(Scan{}.Operator),
	fRx:           unsafe.Offsetof(Scan{}.Rx),
	fDoc:          unsafe.Offsetof(Scan{}.Doc),
	fBatchNo:      unsafe.Offsetof(Scan{}.BatchNo),
	fSupplier:     unsafe.Offsetof(Scan{}.Supplier),
	fReverses:     unsafe.Offsetof(Scan{}.Reverses),
}

// text returns where the string field f lives in s, nil for other fields.
func (s *Scan) text(f member) *string {
	if members[f].form > lastText {
		return nil
	}
	return (*string)(unsafe.Add(unsafe.Pointer(s), textAt[f]))
}

// number returns where the number field f lives in s.
func (s *Scan) number(f member) *Number {
	switch f {
	case fQuantity:
		return &s.Quantity
	case fPrice:
		return &s.Price
	case fDays:
		return &s.Days
	}
	return &s.FundPay
}

// DecodeJSON reads one event of version 1 into s, whatever s held before, and
// returns nil or the first thing that breaks the contract.
//
// A null is an absent field everywhere, an empty string is an absent optional
// field, and so is the date 0001-01-01, which several tills write for "none".
// Times are kept in Asia/Shanghai, so that two spellings of one instant are
// the same content. No defaults are filled in.
//
// Nothing in s aliases data: the caller may overwrite data and decode into s
// again while copies of s live on. The strings of one event share one
// allocation; who keeps a single one for long should clone it. Who reads many
// events one after the other uses a Decoder, which allocates nothing.
//
// After a Refusal s is not an event, but Org, Region and EventID hold what
// could be read and is well formed, so that the reject finds its subject; they
// are empty otherwise. No Reason quotes a value.
func (s *Scan) DecodeJSON(data []byte) *Refusal {
	d := decoders.Get().(*Decoder)
	defer d.release()
	scan, refusal := d.Decode(data)
	scan.cloneTo(s)
	return refusal
}

// decoders saves each event the room to decode it in.
var decoders = sync.Pool{New: func() any { return new(Decoder) }}

// release gives d back, without what belongs to the caller, and without the
// room that only a giant event needed.
func (d *Decoder) release() {
	d.begin()
	if cap(d.text) > 64<<10 {
		d.text = nil
	}
	decoders.Put(d)
}

// refuse remembers the first refusal. Reading goes on, since Org and Region
// may still come.
func (d *Decoder) refuse(code string, f member, reason string) {
	if d.first == nil {
		d.first = &Refusal{Code: code, Field: members[f].name, Reason: reason}
	}
}

// broken words an error of the JSON reader. Its own text is not used, as it
// quotes a byte of what may be a person number.
func (d *Decoder) broken(err error) *Refusal {
	r := &Refusal{Code: RefuseJSON}
	if d.reading < memberCount {
		r.Field = members[d.reading].name
	}
	switch {
	case errors.Is(err, errNoObject):
		r.Reason = "the event is not a JSON object"
	case errors.Is(err, errTrailing):
		r.Field = ""
		r.Reason = "something follows the JSON object"
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		r.Reason = "the JSON object is cut off"
	case r.Field != "":
		r.Reason = "not valid JSON in this field or right after it"
	default:
		r.Reason = "not valid JSON"
	}
	return r
}

var (
	errNoObject = errors.New("no object")
	errTrailing = errors.New("trailing data")
)

// careful reads an event with jx, which judges what plain does not want to: all
// that is refused, and the rare and odd.
func (d *Decoder) careful(data []byte) *Refusal {
	d.begin()
	if !utf8.Valid(data) {
		d.scan.salvage(data)
		return &Refusal{Code: RefuseEncoding, Reason: "the event is not UTF-8"}
	}
	d.json.ResetBytes(data)
	err := d.object()
	d.json.ResetBytes(nil) // it must not keep the message
	if err != nil {
		d.scan.salvage(data)
		return d.broken(err)
	}
	if d.first == nil {
		d.whole()
	}
	return d.first
}

// object reads the whole event. An error means broken JSON; whatever else is
// wrong goes to refuse.
func (d *Decoder) object() error {
	if d.json.Next() != jx.Object {
		return errNoObject
	}
	it, err := d.json.ObjIter()
	if err != nil {
		return err
	}
	for it.Next() {
		f := memberOf(it.Key())
		d.reading = f
		if f == fUnknown {
			d.scan.Unknown++
			// jx stops at a fixed depth, so a nesting bomb is an error, not a
			// stack overflow.
			if err := d.json.Skip(); err != nil {
				return err
			}
			continue
		}
		if d.seen&(1<<f) != 0 {
			d.refuse(RefuseJSON, f, "the field is given twice")
			if err := d.json.Skip(); err != nil {
				return err
			}
			continue
		}
		d.seen |= 1 << f
		if err := d.value(f); err != nil {
			return err
		}
	}
	if err := it.Err(); err != nil {
		return err
	}
	if err := d.json.Skip(); err != io.EOF {
		return errTrailing
	}
	return nil
}

// value reads the value of f.
func (d *Decoder) value(f member) error {
	got := d.json.Next()
	if got == jx.Null {
		return d.json.Null()
	}
	switch form := members[f].form; form {
	case formBool:
		if got != jx.Bool {
			return d.wrongType(f, "must be true or false")
		}
		v, err := d.json.Bool()
		if err != nil {
			return err
		}
		d.scan.Split = v
		return nil
	case formAbove0, formFrom0:
		if got != jx.Number {
			return d.wrongType(f, "must be a number")
		}
		raw, err := d.json.Raw()
		if err != nil {
			return err
		}
		n, ok := parseNumber(raw)
		switch {
		case !ok && raw[0] != '-':
			d.refuse(RefuseRange, f, "has more than 12 digits before the point")
		case form == formAbove0 && n <= 0:
			d.refuse(RefuseRange, f, "must be more than 0 when rounded to 6 places")
		case n < 0 || !ok:
			d.refuse(RefuseRange, f, "must not be less than 0")
		default:
			*d.scan.number(f) = Number{Micro: n, Known: true}
		}
		return nil
	case formCodes:
		if got != jx.Array {
			return d.wrongType(f, "must be an array of strings")
		}
		return d.readCodes()
	case formKinds:
		if got == jx.String {
			return d.readVoidKind()
		}
		if got != jx.Array {
			return d.wrongType(f, "must be an array of kinds")
		}
		return d.readVoidKinds()
	}
	if got != jx.String {
		return d.wrongType(f, "must be a string")
	}
	return d.readString(f)
}

func (d *Decoder) wrongType(f member, reason string) error {
	d.refuse(RefuseType, f, reason)
	return d.json.Skip()
}

// readString reads the value of every field that is a string on the wire.
func (d *Decoder) readString(f member) error {
	from := len(d.text)
	text, err := d.json.StrAppend(d.text)
	if err != nil {
		return err
	}
	d.text = text
	if code, reason := d.take(f, text[from:]); code != "" {
		d.refuse(code, f, reason)
	}
	return nil
}

// take sets the field f, which is a string on the wire, to v, and says what is
// wrong with v instead when it may not stand there. The scan then aliases v.
func (d *Decoder) take(f member, v []byte) (code, reason string) {
	if len(v) == 0 {
		return "", ""
	}
	d.present |= 1 << f
	s := &d.scan
	max := members[f].max
	switch members[f].form {
	case formText:
		// Characters are never more than bytes: most values need no counting.
		if len(v) > max && utf8.RuneCount(v) > max {
			return longer(max)
		}
	case formID:
		if !validID(v) {
			return RefuseFormat, "must be printable ASCII, not only blanks"
		}
		if len(v) > max {
			return longer(max)
		}
	case formOrg:
		if !validOrg(v) {
			return RefuseFormat, "may hold letters, digits, _ and - only"
		}
		if len(v) > max {
			return longer(max)
		}
	case formRegion:
		if len(v) != 6 || !allDigits(v) {
			return RefuseFormat, "must be 6 digits"
		}
	case formEnum:
		return s.takeEnum(f, v)
	case formTime:
		t, ok := parseTime(v)
		if !ok {
			return RefuseFormat, "must be an RFC 3339 time with offset, as 2026-01-05T10:11:12+08:00"
		}
		if unix := t.Unix(); unix < firstSecond || unix > lastSecond {
			return RefuseRange, "must lie in the years 1 to 9999"
		}
		if f == fTime {
			s.Time = t
		} else {
			s.Sent = t
		}
		return "", ""
	case formDate:
		t, ok := parseDate(v)
		if !ok {
			return RefuseFormat, "must be a real date, as 2026-01-05"
		}
		if f == fMade {
			s.Made = t
		} else {
			s.Expires = t
		}
		return "", ""
	}
	*s.text(f) = alias(v)
	return "", ""
}

func longer(max int) (code, reason string) {
	return RefuseLength, "is longer than " + strconv.Itoa(max) + " characters"
}

// alias returns v as a string, without a copy: v must not change while the
// string is used.
func alias(v []byte) string {
	return unsafe.String(unsafe.SliceData(v), len(v))
}

// takeEnum is take for a field with a list of values. The constant is kept, not v.
func (s *Scan) takeEnum(f member, v []byte) (code, reason string) {
	switch f {
	case fKind:
		if s.Kind = kindOf(v); s.Kind == "" {
			return RefuseValue, "must be sale, sale_return, purchase, purchase_return, stock_in, stock_out, stock_take or void"
		}
	case fPay:
		switch string(v) {
		case PayInsured:
			s.Pay = PayInsured
		case PaySelf:
			s.Pay = PaySelf
		default:
			return RefuseValue, "must be insured or self"
		}
	case fCredential:
		switch string(v) {
		case CredentialECard:
			s.Credential = CredentialECard
		case CredentialIDCard:
			s.Credential = CredentialIDCard
		case CredentialSSCard:
			s.Credential = CredentialSSCard
		default:
			return RefuseValue, "must be ecard, idcard or sscard"
		}
	case fSetting:
		switch string(v) {
		case SettingPharmacy:
			s.Setting = SettingPharmacy
		case SettingOutpatient:
			s.Setting = SettingOutpatient
		case SettingInpatient:
			s.Setting = SettingInpatient
		case SettingOther:
			s.Setting = SettingOther
		default:
			return RefuseValue, "must be pharmacy, outpatient, inpatient or other"
		}
	}
	return "", ""
}

// kindOf returns the kind of that name, "" when there is none.
func kindOf(v []byte) Kind {
	switch string(v) {
	case string(Sale):
		return Sale
	case string(SaleReturn):
		return SaleReturn
	case string(Purchase):
		return Purchase
	case string(PurchaseReturn):
		return PurchaseReturn
	case string(StockIn):
		return StockIn
	case string(StockOut):
		return StockOut
	case string(StockTake):
		return StockTake
	case string(Void):
		return Void
	}
	return ""
}

func (d *Decoder) readCodes() error {
	it, err := d.json.ArrIter()
	if err != nil {
		return err
	}
	for it.Next() {
		if d.json.Next() != jx.String {
			if err := d.wrongType(fCodes, "must hold strings only"); err != nil {
				return err
			}
			continue
		}
		if len(d.scan.Codes) == MaxCodes {
			d.refuse(RefuseCodes, fCodes, "holds more than "+strconv.Itoa(MaxCodes)+" codes")
			if err := d.json.Skip(); err != nil {
				return err
			}
			continue
		}
		from := len(d.text)
		if d.text, err = d.json.StrAppend(d.text); err != nil {
			return err
		}
		d.addCode(d.text[from:])
	}
	return it.Err()
}

func (d *Decoder) readVoidKinds() error {
	it, err := d.json.ArrIter()
	if err != nil {
		return err
	}
	for it.Next() {
		if d.json.Next() != jx.String {
			if err := d.wrongType(fVoidKind, "must hold strings only"); err != nil {
				return err
			}
			continue
		}
		if err := d.readVoidKind(); err != nil {
			return err
		}
	}
	return it.Err()
}

// readVoidKind reads one kind; one named again changes nothing.
func (d *Decoder) readVoidKind() error {
	v, err := d.json.StrBytes()
	if err != nil || len(v) == 0 {
		return err
	}
	kind := kindOf(v)
	if kind == "" || kind == Void {
		d.refuse(RefuseValue, fVoidKind, "must name kinds other than void")
		return nil
	}
	if !slices.Contains(d.scan.VoidKinds, kind) {
		d.kinds = append(d.kinds, kind)
		d.scan.VoidKinds = d.kinds
	}
	return nil
}

// whole checks what takes more than one field.
func (d *Decoder) whole() {
	s := &d.scan
	for _, f := range [...]member{fEventID, fKind, fTime, fOrg, fRegion} {
		if d.present&(1<<f) == 0 {
			d.refuse(RefuseMissing, f, "is required")
			return
		}
	}
	switch s.Kind {
	case Sale, SaleReturn:
		if len(s.Codes) == 0 {
			d.refuse(RefuseCodes, fCodes, "a "+string(s.Kind)+" needs at least one code")
		}
	case Void:
		if len(s.Codes) > 0 {
			d.refuse(RefuseCodes, fCodes, "a void carries no codes")
		}
	}
	if s.Kind != Void {
		s.VoidKinds = nil // it says nothing elsewhere
	}
}

// What can be found in an event that is not JSON. The first match counts.
var (
	salvageEventID = regexp.MustCompile(`"event_id"\s*:\s*"([ !#-\[\]-~]{1,64})"`)
	salvageOrg     = regexp.MustCompile(`"org"\s*:\s*"([A-Za-z0-9_-]{1,32})"`)
	salvageRegion  = regexp.MustCompile(`"region"\s*:\s*"([0-9]{6})"`)
)

// salvage fills what the reader did not get to.
func (s *Scan) salvage(data []byte) {
	find := func(to *string, re *regexp.Regexp) {
		if *to != "" {
			return
		}
		if m := re.FindSubmatch(data); m != nil {
			*to = string(m[1])
		}
	}
	find(&s.EventID, salvageEventID)
	find(&s.Org, salvageOrg)
	find(&s.Region, salvageRegion)
}

// validID tells whether v is 0x20 to 0x7E with something to see in it.
func validID(v []byte) bool {
	seen := false
	for _, c := range v {
		if c < ' ' || c > '~' {
			return false
		}
		seen = seen || c != ' '
	}
	return seen
}

func validOrg(v []byte) bool {
	for _, c := range v {
		switch {
		case c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

func allDigits(v []byte) bool {
	for _, c := range v {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// maxMicro is the first Number.Micro that needs 13 digits before the point.
const maxMicro = 1e18

// parseNumber turns a JSON number into millionths, rounded half away from
// zero. It is false when there are more than 12 digits before the point. A
// negative number stays negative when it rounds to zero: -1 is returned.
func parseNumber(raw []byte) (micro int64, ok bool) {
	negative := raw[0] == '-'
	if negative {
		raw = raw[1:]
	}
	// The digits without point and leading zeros, and how many of them stand
	// before the point.
	var (
		mantissa [24]byte // 12 before the point, 6 behind it, and one to round by; the rest cannot matter
		n        int
		point    int
		fraction bool
		i        int
	)
	for ; i < len(raw) && raw[i] != 'e' && raw[i] != 'E'; i++ {
		switch c := raw[i]; {
		case c == '.':
			fraction = true
		case n == 0 && c == '0':
			if fraction {
				point--
			}
		default:
			if n < len(mantissa) {
				mantissa[n] = c - '0'
				n++
			}
			if !fraction {
				point++
			}
		}
	}
	if n == 0 {
		return 0, true
	}
	if i < len(raw) {
		exponent, err := strconv.Atoi(string(raw[i+1:]))
		if err != nil || exponent > 1<<30 || exponent < -1<<30 {
			// Out of all proportion: keep the sign only.
			exponent = 1 << 30
			if raw[i+1] == '-' {
				exponent = -1 << 30
			}
		}
		point += exponent
	}
	if point > 12 {
		return 0, false
	}
	for k := range point + 6 {
		micro *= 10
		if k < n {
			micro += int64(mantissa[k])
		}
	}
	if next := point + 6; next >= 0 && next < n && mantissa[next] >= 5 {
		micro++
	}
	if micro >= maxMicro {
		return 0, false
	}
	if negative {
		return min(-micro, -1), true
	}
	return micro, true
}

// parseTime reads an RFC 3339 time with offset. By hand, as it is half the
// cost of an event otherwise, and time.Parse also takes what the RFC does not
// (a comma before the fraction, one digit for the hour).
func parseTime(v []byte) (time.Time, bool) {
	if len(v) < len("2006-01-02T15:04:05Z") {
		return time.Time{}, false
	}
	year, month, day, ok := civil(v[:10])
	if !ok || v[10] != 'T' && v[10] != 't' || v[13] != ':' || v[16] != ':' {
		return time.Time{}, false
	}
	hour, ok1 := twoDigits(v[11:13], 23)
	minute, ok2 := twoDigits(v[14:16], 59)
	second, ok3 := twoDigits(v[17:19], 59)
	if !ok1 || !ok2 || !ok3 {
		return time.Time{}, false
	}
	rest := v[19:]
	nanos := 0
	if rest[0] == '.' {
		i, scale := 1, 100_000_000
		for ; i < len(rest) && rest[i] >= '0' && rest[i] <= '9'; i++ {
			nanos += int(rest[i]-'0') * scale
			scale /= 10
		}
		if i == 1 {
			return time.Time{}, false
		}
		rest = rest[i:]
	}
	offset := 0
	switch {
	case len(rest) == 1 && (rest[0] == 'Z' || rest[0] == 'z'):
	case len(rest) == 6 && rest[3] == ':' && (rest[0] == '+' || rest[0] == '-'):
		hours, ok1 := twoDigits(rest[1:3], 23)
		minutes, ok2 := twoDigits(rest[4:6], 59)
		if !ok1 || !ok2 {
			return time.Time{}, false
		}
		offset = (hours*60 + minutes) * 60
		if rest[0] == '-' {
			offset = -offset
		}
	default:
		return time.Time{}, false
	}
	unix := daysTo(year, month, day)*86400 + int64(hour*3600+minute*60+second-offset)
	return time.Unix(unix, int64(nanos)).In(Shanghai), true
}

// parseDate reads YYYY-MM-DD as midnight UTC.
func parseDate(v []byte) (time.Time, bool) {
	if len(v) != 10 {
		return time.Time{}, false
	}
	year, month, day, ok := civil(v)
	if !ok || year == 0 {
		return time.Time{}, false
	}
	return time.Unix(daysTo(year, month, day)*86400, 0).UTC(), true
}

// The first and the last second of the years 1 to 9999 in Shanghai.
const (
	firstSecond = -62135596800 - 8*60*60
	lastSecond  = 253402300799 - 8*60*60
)

// daysTo counts the days from 1970-01-01 to a real date of the years 0 to 9999.
// Half of what time.Date does is for dates that are not real.
func daysTo(year, month, day int) int64 {
	// Years begin in March here, so that the leap day is the last of its year.
	if month <= 2 {
		year--
		month += 12
	}
	year += 400 // the division must not round a negative number
	days := 365*year + year/4 - year/100 + year/400 + (153*(month-3)+2)/5 + day
	return int64(days - 719469 - 146097)
}

// civil reads a real date from the 10 bytes of v.
func civil(v []byte) (year, month, day int, ok bool) {
	if v[4] != '-' || v[7] != '-' {
		return 0, 0, 0, false
	}
	century, ok1 := twoDigits(v[0:2], 99)
	year, ok2 := twoDigits(v[2:4], 99)
	month, ok3 := twoDigits(v[5:7], 12)
	day, ok4 := twoDigits(v[8:10], 31)
	year += century * 100
	if !ok1 || !ok2 || !ok3 || !ok4 || month == 0 || day == 0 {
		return 0, 0, 0, false
	}
	switch month {
	case 4, 6, 9, 11:
		ok = day <= 30
	case 2:
		ok = day <= 28 || day == 29 && year%4 == 0 && (year%100 != 0 || year%400 == 0)
	default:
		ok = true
	}
	return year, month, day, ok
}

// twoDigits reads two digits that may not exceed top.
func twoDigits(v []byte, top int) (int, bool) {
	a, b := v[0]-'0', v[1]-'0'
	n := int(a)*10 + int(b)
	return n, a <= 9 && b <= 9 && n <= top
}

// AppendJSON appends the wire form of s to b: absent fields are left out,
// times are written in +08:00 with as much fraction as they have. The strings
// of s must be UTF-8. For an s that DecodeJSON accepted, decoding the result
// gives s again, Unknown aside.
func (s *Scan) AppendJSON(b []byte) []byte {
	w := jx.Writer{Buf: append(b, '{')}
	// Time is required, so even the zero instant is written: it was sent.
	s.appendText(&w, fEventID)
	appendEnum(&w, fKind, string(s.Kind))
	appendName(&w, fTime)
	w.Buf = appendTime(w.Buf, s.Time)
	if !s.Sent.IsZero() {
		appendName(&w, fSent)
		w.Buf = appendTime(w.Buf, s.Sent)
	}
	s.appendText(&w, fOrg)
	s.appendText(&w, fRegion)
	if len(s.Codes) > 0 {
		appendName(&w, fCodes)
		for i, code := range s.Codes {
			w.Buf = append(w.Buf, "[,"[min(i, 1)])
			w.Str(code)
		}
		w.Buf = append(w.Buf, ']')
	}
	s.appendText(&w, fDevice)
	s.appendText(&w, fDrug)
	s.appendText(&w, fLot)
	appendDate(&w, fMade, s.Made)
	appendDate(&w, fExpires, s.Expires)
	if s.Split {
		appendName(&w, fSplit)
		w.Buf = append(w.Buf, "true"...)
	}
	appendNumber(&w, fQuantity, s.Quantity)
	appendNumber(&w, fPrice, s.Price)
	appendNumber(&w, fDays, s.Days)
	appendEnum(&w, fPay, s.Pay)
	s.appendText(&w, fSettlement)
	appendNumber(&w, fFundPay, s.FundPay)
	s.appendText(&w, fVisit)
	s.appendText(&w, fPerson)
	s.appendText(&w, fPersonRegion)
	appendEnum(&w, fCredential, s.Credential)
	appendEnum(&w, fSetting, s.Setting)
	s.appendText(&w, fDoctor)
	s.appendText(&w, fDoctorID)
	s.appendText(&w, fPharmacist)
	s.appendText(&w, fPharmacistID)
	s.appendText(&w, fOperator)
	s.appendText(&w, fRx)
	s.appendText(&w, fDoc)
	s.appendText(&w, fBatchNo)
	s.appendText(&w, fSupplier)
	s.appendText(&w, fReverses)
	if len(s.VoidKinds) > 0 {
		appendName(&w, fVoidKind)
		for i, kind := range s.VoidKinds {
			w.Buf = append(w.Buf, "[,"[min(i, 1)])
			w.Str(string(kind))
		}
		w.Buf = append(w.Buf, ']')
	}
	return append(w.Buf, '}')
}

func appendName(w *jx.Writer, f member) {
	if w.Buf[len(w.Buf)-1] != '{' {
		w.Buf = append(w.Buf, ',')
	}
	w.Buf = append(w.Buf, '"')
	w.Buf = append(w.Buf, members[f].name...)
	w.Buf = append(w.Buf, '"', ':')
}

func (s *Scan) appendText(w *jx.Writer, f member) {
	appendEnum(w, f, *s.text(f))
}

func appendEnum(w *jx.Writer, f member, v string) {
	if v != "" {
		appendName(w, f)
		w.Str(v)
	}
}

func appendDate(w *jx.Writer, f member, t time.Time) {
	if !t.IsZero() {
		appendName(w, f)
		w.Buf = t.UTC().AppendFormat(w.Buf, `"2006-01-02"`)
	}
}

// appendTime writes t with no fraction, or three, six or nine places of it.
func appendTime(b []byte, t time.Time) []byte {
	layout := `"2006-01-02T15:04:05.000000000-07:00"`
	switch ns := t.Nanosecond(); {
	case ns == 0:
		layout = `"2006-01-02T15:04:05-07:00"`
	case ns%1e6 == 0:
		layout = `"2006-01-02T15:04:05.000-07:00"`
	case ns%1e3 == 0:
		layout = `"2006-01-02T15:04:05.000000-07:00"`
	}
	return t.In(Shanghai).AppendFormat(b, layout)
}

func appendNumber(w *jx.Writer, f member, n Number) {
	if !n.Known {
		return
	}
	appendName(w, f)
	micro := n.Micro
	if micro < 0 {
		w.Buf = append(w.Buf, '-')
		micro = -micro
	}
	w.Buf = strconv.AppendInt(w.Buf, micro/1e6, 10)
	if rest := micro % 1e6; rest != 0 {
		w.Buf = append(w.Buf, '.')
		for place := int64(1e5); rest != 0; place /= 10 {
			w.Buf = append(w.Buf, byte('0'+rest/place))
			rest %= place
		}
	}
}
