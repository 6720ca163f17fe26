package schema

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/cespare/xxhash/v2"
)

// Flags of a row that come from the event; code flags stand beside Classify.
const (
	FlagClock        = "clock"         // time before 2015, or later than receipt by more than ClockSlack
	FlagNoPerson     = "no_person"     // insured sale without a person
	FlagNoSettlement = "no_settlement" // insured sale without a settlement
	FlagNamesNothing = "names_nothing" // void without reverses, settlement and batch_no: it has no effect
)

// ClockSlack is how far a counter's clock may run ahead of receipt.
const ClockSlack = 10 * time.Minute

// earliestTime is when traceability codes did not exist yet; earlier is a wrong clock.
var earliestTime = time.Date(2015, 1, 1, 0, 0, 0, 0, Shanghai)

// The span a Date32 can hold, and the end of what most readers can make of a
// DateTime64, who go through nanoseconds. What is outside is stored at the
// edge; such a time is flagged FlagClock anyway.
var (
	tableStart   = time.Date(1900, 1, 2, 0, 0, 0, 0, time.UTC)
	tableTimeEnd = time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC)
	tableDateEnd = time.Date(2299, 12, 30, 0, 0, 0, 0, time.UTC)
)

// promptnessBase is what promptness counts down from, seconds.
const promptnessBase = 1 << 40

// People hides persons for the blocks of one writer, and knows whom the vault
// has already. It belongs to one database and to one goroutine, and to the one
// that sends its blocks.
type People struct {
	hider *hider
	known map[string]*person // by number; bounded
	last  *person            // found last: the lines of one receipt are neighbours
}

// person is somebody People knows.
type person struct {
	pseudonym string
	number    string
	vaulted   atomic.Bool // set by who sends
	block     *Block      // the last one that has this person for the vault
	round     uint64      // of that block
}

// knownPersons bounds the memory of pseudonyms already worked out.
const knownPersons = 1 << 17

// NewPeople returns People that key hides.
func NewPeople(key *PersonKey) *People {
	return &People{hider: key.hider(), known: map[string]*person{}}
}

// find returns the person of a number, which it copies.
func (p *People) find(number string) *person {
	if p.last != nil && p.last.number == number {
		return p.last
	}
	if one, ok := p.known[number]; ok {
		p.last = one
		return one
	}
	if len(p.known) >= knownPersons {
		clear(p.known)
	}
	number = strings.Clone(number) // the caller's is part of a message
	one := &person{pseudonym: p.hider.pseudonym(number), number: number}
	p.known[number], p.last = one, one
	return one
}

// Block collects scans as columns for one insert. The zero value is not usable;
// see NewBlock. It is not safe for concurrent use.
type Block struct {
	people   *People
	classify *Classifier

	events  int
	bytes   int
	round   uint64 // counts Reset
	columns scanColumns
	voids   voidColumns
	vault   []*person // of this block, those the vault is not known to have
	items   []Code    // of the event being added
	content []byte    // of the event being added
	flags   []string  // of the event being added
}

// scanColumns are the columns of scan_rows, in the order of the table.
type scanColumns struct {
	code         proto.ColUInt64
	codeText     texts
	org          words
	eventID      ids
	digest       proto.ColUInt32
	promptness   proto.ColUInt64
	seq          proto.ColUInt64
	scheme       proto.ColInt8
	product      words
	codeRaw      texts
	codes        proto.ColUInt16
	kind         proto.ColInt8
	time         proto.ColInt64 // milliseconds
	sentLag      proto.ColInt64 // milliseconds
	region       words
	device       words
	operator     words
	drug         words
	lot          words
	made         dates
	expires      dates
	split        proto.ColBool
	quantity     numbers
	price        numbers
	days         numbers
	pay          proto.ColInt8
	settlement   texts
	fundPay      numbers
	visit        texts
	person       texts
	personRegion words
	credential   proto.ColInt8
	setting      proto.ColInt8
	doctor       words
	doctorID     words
	pharmacist   words
	pharmacistID words
	rx           texts
	doc          texts
	batchNo      texts
	supplier     words
	reverses     texts
	voidKind     lists
	flags        lists
}

type voidColumns struct {
	org        words
	eventID    texts
	digest     proto.ColUInt32
	promptness proto.ColUInt64
	time       proto.ColInt64 // milliseconds
	sent       proto.ColInt64 // milliseconds
	reverses   texts
	settlement texts
	batchNo    texts
	voidKind   lists
	clock      proto.ColBool
}

// NewBlock returns an empty block whose persons are hidden by people and whose
// codes are read by classify. Blocks that share people must be sent to one database.
func NewBlock(people *People, classify *Classifier) *Block {
	return &Block{people: people, classify: classify}
}

// Events is how many scans were added, Rows how many rows they make, Bytes
// about how much memory their text takes.
func (b *Block) Events() int { return b.events }

// Rows is the number of rows of scan_rows the block holds.
func (b *Block) Rows() int { return len(b.columns.code) }

// Bytes is about the memory the block's text takes.
func (b *Block) Bytes() int { return b.bytes }

// Reset empties the block and keeps its memory. classify reads the codes from
// now on.
func (b *Block) Reset(classify *Classifier) {
	b.classify = classify
	b.events, b.bytes = 0, 0
	b.round++
	for _, c := range slices.Concat(b.columns.input(), b.voids.input()) {
		column := c.Data
		if t, ok := column.(typed); ok {
			column = t.ColInput
		}
		column.(proto.Resettable).Reset()
	}
	clear(b.vault)
	b.vault = b.vault[:0]
}

// pseudonym hides a person and sees to it that the vault gets to know.
func (b *Block) pseudonym(number string) string {
	if number == "" {
		return ""
	}
	one := b.people.find(number)
	if !one.vaulted.Load() && (one.block != b || one.round != b.round) {
		one.block, one.round = b, b.round
		b.vault = append(b.vault, one)
	}
	return one.pseudonym
}

// Items returns the rows an event makes: one code each, the same item code once
// and the same other code once, as both stand for themselves. boxes is how many
// packs that is when the event does not say: an item code read twice is one
// box, a placeholder given twice is two.
func (c *Classifier) Items(dst []Code, codes []string, drug string) (rows []Code, boxes int) {
	rows = dst[:0]
	for _, raw := range codes {
		code := c.Classify(raw, drug)
		seen := slices.ContainsFunc(rows, func(other Code) bool {
			if code.Item() {
				return other.Key == code.Key
			}
			return !other.Item() && other.Raw == code.Raw
		})
		if !seen {
			rows = append(rows, code)
		}
		if !seen || !code.Item() {
			boxes++
		}
	}
	return rows, boxes
}

// Add appends the rows of one decoded scan. seq is the sequence of its message
// in SCANS, received when the stream took it.
func (b *Block) Add(s *Scan, seq uint64, received time.Time) {
	e := *s
	digest := b.judge(&e, received)
	if len(b.items) == 0 {
		b.columns.add(&e, nil, 0, digest, seq, received, b.flags)
		return
	}
	for i := range b.items {
		b.columns.add(&e, &b.items[i], len(b.items), digest, seq, received, b.flags)
	}
}

// judge makes of an event what the table holds of it: defaults filled in and the
// person hidden. Its codes are in items then, its flags in flags, and if it is a
// void it stands among the voids.
func (b *Block) judge(e *Scan, received time.Time) (digest uint32) {
	rows, boxes := b.classify.Items(b.items, e.Codes, e.Drug)
	b.items = rows
	e.fillDefaults(boxes)
	e.Person = b.pseudonym(e.Person)
	b.content = e.appendContent(b.content[:0])
	digest = uint32(xxhash.Sum64(b.content))
	b.events++
	b.bytes += len(b.content) + 64*len(rows)

	flags := b.flags[:0]
	clock := e.Time.Before(earliestTime) || e.Time.After(received.Add(ClockSlack))
	if clock {
		flags = append(flags, FlagClock)
	}
	if e.Kind == Sale && e.Pay == PayInsured {
		if e.Person == "" {
			flags = append(flags, FlagNoPerson)
		}
		if e.Settlement == "" {
			flags = append(flags, FlagNoSettlement)
		}
	}
	if e.Kind == Void {
		if e.Reverses == "" && e.Settlement == "" && e.BatchNo == "" {
			flags = append(flags, FlagNamesNothing)
		}
		b.voids.add(e, digest, received, clock)
	}
	b.flags = flags
	return digest
}

// number is the numeric key: 19 digits of a 20-digit code, a hash of other item
// codes, and for codes that are never compared a key within the org, so that
// uploads of one line with one drug and code can be told to be one.
func (c *Code) number(s *Scan) uint64 {
	switch {
	case c.Scheme == SchemeCN20:
		var n uint64
		for _, digit := range []byte(c.Key[1:]) {
			n = n*10 + uint64(digit-'0')
		}
		return n
	case c.Item():
		return xxhash.Sum64String(c.Key)
	}
	return xxhash.Sum64String(s.Org + "\x00" + s.Drug + "\x00" + c.Raw)
}

// Number is the column code of an item code; 0 for any other.
func (c Code) Number() uint64 {
	if !c.Item() {
		return 0
	}
	return c.number(nil)
}

// Digest is the column digest of a scan with its defaults filled in and the
// pseudonym in the place of the person.
func (s *Scan) Digest() uint32 {
	var room [512]byte
	return uint32(xxhash.Sum64(s.appendContent(room[:0])))
}

// appendContent writes what makes two events with one id the same event: every
// field of the contract but when it was sent, defaults filled in, codes in no
// order, person hidden. The digest of it is stored, so it must not give a number
// away by trial.
func (s *Scan) appendContent(b []byte) []byte {
	b = contentText(b, string(s.Kind))
	from := len(b)
	b = contentTime(b, s.Time.UnixNano())
	b = append(b, b[from:]...) // where sent stood; the digest of what was sent at once is as before
	b = contentText(b, s.Region)
	codes := s.Codes
	if !slices.IsSorted(codes) {
		codes = slices.Sorted(slices.Values(codes))
	}
	for _, code := range codes {
		b = contentText(b, code)
	}
	b = append(b, 1)
	b = contentText(b, s.Device)
	b = contentText(b, s.Drug)
	b = contentText(b, s.Lot)
	b = contentText(b, s.Pay)
	b = contentText(b, s.Settlement)
	b = contentText(b, s.Visit)
	b = contentText(b, s.Person)
	b = contentText(b, s.PersonRegion)
	b = contentText(b, s.Credential)
	b = contentText(b, s.Setting)
	b = contentText(b, s.Doctor)
	b = contentText(b, s.DoctorID)
	b = contentText(b, s.Pharmacist)
	b = contentText(b, s.PharmacistID)
	b = contentText(b, s.Operator)
	b = contentText(b, s.Rx)
	b = contentText(b, s.Doc)
	b = contentText(b, s.BatchNo)
	b = contentText(b, s.Supplier)
	b = contentText(b, s.Reverses)
	b = contentInt(b, s.Made.Unix(), !s.Made.IsZero())
	b = contentInt(b, s.Expires.Unix(), !s.Expires.IsZero())
	if s.Split {
		b = append(b, 1)
	}
	b = contentNumber(b, s.Quantity)
	b = contentNumber(b, s.Price)
	b = contentNumber(b, s.Days)
	b = contentNumber(b, s.FundPay)
	if s.Kind == Void {
		for _, kind := range slices.Sorted(slices.Values(s.VoidKinds)) {
			b = contentText(b, string(kind))
		}
	}
	return b
}

// contentText and those below write one part of a content and what ends it.
func contentText(b []byte, v string) []byte {
	if v != "" {
		b = append(b, v...)
	}
	return append(b, 0)
}

func contentInt(b []byte, v int64, known bool) []byte {
	if known {
		b = strconv.AppendInt(b, v, 10)
	}
	return append(b, 0)
}

// Most times are whole seconds and many numbers whole: digits cost more to work
// out than to copy.
func contentTime(b []byte, nanos int64) []byte {
	const second, zeros = 1e9, "000000000\x00"
	if nanos%second == 0 && nanos != 0 {
		return append(strconv.AppendInt(b, nanos/second, 10), zeros...)
	}
	return contentInt(b, nanos, true)
}

func contentNumber(b []byte, n Number) []byte {
	const one, zeros = 1e6, "000000\x00"
	if n.Known && n.Micro%one == 0 && n.Micro != 0 {
		return append(strconv.AppendInt(b, n.Micro/one, 10), zeros...)
	}
	return contentInt(b, n.Micro, n.Known)
}

func tableTime(t time.Time) time.Time { return between(tableStart, t, tableTimeEnd) }

func between(start, t, end time.Time) time.Time {
	if t.Before(start) {
		return start
	}
	if t.After(end) {
		return end
	}
	return t
}

// tableDate is the day of t since 1970, and whether there is one.
func tableDate(t time.Time) (day int32, known bool) {
	if t.IsZero() {
		return 0, false
	}
	const daySeconds = 24 * 60 * 60
	seconds := between(tableStart, t, tableDateEnd).Unix()
	if seconds < 0 {
		seconds -= daySeconds - 1 // down, not towards 1970
	}
	return int32(seconds / daySeconds), true
}

// seqStep is how finely the table remembers the sequence of a message: all it is
// asked for is about when a row came in, and the rest of it took 2.4 bytes a scan.
const seqStep = 1 << 16

// StoredSeq is the column seq of a row whose message has sequence seq in SCANS.
func StoredSeq(seq uint64) uint64 { return seq / seqStep * seqStep }

// promptness says which upload of an event stays: the one that was sent last, as
// a row uploaded again after a void stands, and of those sent in one second the
// one received first. It is the seconds from time to sending (no more than 17
// years) times 2^34, plus promptnessBase, less the seconds from time to receipt;
// the view scans takes those from the remainder by 2^34, which is the same without
// the first part, as it was before. By a till whose clock is ahead sending comes
// before time: there is room for that in steps of ten seconds, for as long as a
// clock may be ahead.
func promptness(happened, sent, received time.Time) uint64 {
	return uint64(order(happened, sent))<<34 + uint64(promptnessBase-(received.Unix()-happened.Unix()))
}

// order is the part of promptness that says when the event was sent. The view scans
// adds it, as seconds, to sent_lag, which holds what is left, in milliseconds.
func order(happened, sent time.Time) int64 {
	lag := min(sent.Unix()-happened.Unix(), 1<<29-1)
	if lag < 0 {
		lag = max(lag/10-1, -63)
	}
	return lag
}

// The numbers of the table's enumerations. Their names stand in its types.
func kindNumber(k Kind) int8     { return int8(slices.Index(Kinds, k) + 1) }
func schemeNumber(s Scheme) int8 { return int8(slices.Index(schemes, s)) }

func payNumber(pay string) int8 {
	if pay == PayInsured {
		return 1
	}
	return 2
}

func credentialNumber(credential string) int8 {
	return int8(slices.Index(credentials, credential))
}

func settingNumber(setting string) int8 { return int8(slices.Index(settings, setting) + 1) }

var (
	schemes     = []Scheme{SchemeNone, SchemePlaceholder, SchemeCN20, SchemeGS1, SchemeMA, SchemeProduct, SchemeOwn, SchemeInvalid}
	credentials = []string{"", CredentialECard, CredentialIDCard, CredentialSSCard}
	settings    = []string{SettingPharmacy, SettingOutpatient, SettingInpatient, SettingOther}
)

const (
	typeScheme     = "Enum8('' = 0, 'placeholder' = 1, 'cn20' = 2, 'gs1' = 3, 'ma' = 4, 'product' = 5, 'own' = 6, 'invalid' = 7)"
	typeKind       = "Enum8('sale' = 1, 'sale_return' = 2, 'purchase' = 3, 'purchase_return' = 4, 'stock_in' = 5, 'stock_out' = 6, 'stock_take' = 7, 'void' = 8)"
	typePay        = "Enum8('insured' = 1, 'self' = 2)"
	typeCredential = "Enum8('' = 0, 'ecard' = 1, 'idcard' = 2, 'sscard' = 3)"
	typeSetting    = "Enum8('pharmacy' = 1, 'outpatient' = 2, 'inpatient' = 3, 'other' = 4)"
	typeTime       = "DateTime64(3, 'Asia/Shanghai')"
)

// add appends the row of one code, nil when the event has none. codes is how
// many rows the event makes.
func (c *scanColumns) add(s *Scan, code *Code, codes int, digest uint32, seq uint64, received time.Time, flags []string) {
	c.addJudged(s, code, codes, digest, seq, received, flags)
	c.org.add(s.Org)
	c.eventID.add(s.EventID)
	c.region.add(s.Region)
	c.device.add(s.Device)
	c.operator.add(s.Operator)
	c.drug.add(s.Drug)
	c.lot.add(s.Lot)
	c.made.add(tableDate(s.Made))
	c.split = append(c.split, s.Split)
	c.price.add(s.Price)
	c.days.add(s.Days)
	c.settlement.add(s.Settlement)
	c.fundPay.add(s.FundPay)
	c.visit.add(s.Visit)
	c.personRegion.add(s.PersonRegion)
	c.credential = append(c.credential, credentialNumber(s.Credential))
	c.doctor.add(s.Doctor)
	c.doctorID.add(s.DoctorID)
	c.pharmacist.add(s.Pharmacist)
	c.pharmacistID.add(s.PharmacistID)
	c.rx.add(s.Rx)
	c.doc.add(s.Doc)
	c.batchNo.add(s.BatchNo)
	c.supplier.add(s.Supplier)
	c.reverses.add(s.Reverses)
}

// addJudged appends to the columns that do not simply hold a field as it was
// sent: what a code says, defaults, and what the message says.
func (c *scanColumns) addJudged(s *Scan, code *Code, codes int, digest uint32, seq uint64, received time.Time, flags []string) {
	happened, sent := tableTime(s.Time), tableTime(s.Sent)
	expires := s.Expires
	var number uint64
	if code == nil {
		code = &Code{}
		number = xxhash.Sum64String(s.Org + "\x00" + s.EventID)
	} else {
		number = code.number(s)
		if expires.IsZero() {
			expires = code.Expires
		}
	}
	text, raw := code.Key, code.Raw
	if code.Scheme == SchemeCN20 {
		text = ""
		if raw == code.Key {
			raw = ""
		}
	}
	c.code = append(c.code, number)
	c.codeText.add(text)
	c.digest = append(c.digest, digest)
	c.promptness = append(c.promptness, promptness(happened, sent, received))
	c.seq = append(c.seq, StoredSeq(seq))
	c.scheme = append(c.scheme, schemeNumber(code.Scheme))
	c.product.add(code.Product)
	c.codeRaw.add(raw)
	c.codes = append(c.codes, uint16(codes))
	c.kind = append(c.kind, kindNumber(s.Kind))
	c.time = append(c.time, happened.UnixMilli())
	c.sentLag = append(c.sentLag, sent.UnixMilli()-happened.UnixMilli()-1000*order(happened, sent))
	c.expires.add(tableDate(expires))
	c.quantity.add(s.Quantity)
	c.pay = append(c.pay, payNumber(s.Pay))
	c.person.add(s.Person)
	c.setting = append(c.setting, settingNumber(s.Setting))
	for _, kind := range s.VoidKinds {
		c.voidKind.push(string(kind))
	}
	c.voidKind.end()
	for _, flag := range flags {
		c.flags.push(flag)
	}
	for _, flag := range code.Flags {
		c.flags.push(flag)
	}
	c.flags.end()
}

// input names the columns.
func (c *scanColumns) input() proto.Input {
	return proto.Input{
		{Name: "code", Data: &c.code},
		{Name: "code_text", Data: &c.codeText},
		{Name: "org", Data: &c.org},
		{Name: "event_id", Data: &c.eventID},
		{Name: "digest", Data: &c.digest},
		{Name: "promptness", Data: &c.promptness},
		{Name: "seq", Data: &c.seq},
		{Name: "scheme", Data: typed{&c.scheme, typeScheme}},
		{Name: "product", Data: &c.product},
		{Name: "code_raw", Data: &c.codeRaw},
		{Name: "codes", Data: &c.codes},
		{Name: "kind", Data: typed{&c.kind, typeKind}},
		{Name: "time", Data: typed{&c.time, typeTime}},
		{Name: "sent_lag", Data: &c.sentLag},
		{Name: "region", Data: &c.region},
		{Name: "device", Data: &c.device},
		{Name: "operator", Data: &c.operator},
		{Name: "drug", Data: &c.drug},
		{Name: "lot", Data: &c.lot},
		{Name: "made", Data: &c.made},
		{Name: "expires", Data: &c.expires},
		{Name: "split", Data: &c.split},
		{Name: "quantity", Data: &c.quantity},
		{Name: "price", Data: &c.price},
		{Name: "days", Data: &c.days},
		{Name: "pay", Data: typed{&c.pay, typePay}},
		{Name: "settlement", Data: &c.settlement},
		{Name: "fund_pay", Data: &c.fundPay},
		{Name: "visit", Data: &c.visit},
		{Name: "person", Data: &c.person},
		{Name: "person_region", Data: &c.personRegion},
		{Name: "credential", Data: typed{&c.credential, typeCredential}},
		{Name: "setting", Data: typed{&c.setting, typeSetting}},
		{Name: "doctor", Data: &c.doctor},
		{Name: "doctor_id", Data: &c.doctorID},
		{Name: "pharmacist", Data: &c.pharmacist},
		{Name: "pharmacist_id", Data: &c.pharmacistID},
		{Name: "rx", Data: &c.rx},
		{Name: "doc", Data: &c.doc},
		{Name: "batch_no", Data: &c.batchNo},
		{Name: "supplier", Data: &c.supplier},
		{Name: "reverses", Data: &c.reverses},
		{Name: "void_kind", Data: &c.voidKind},
		{Name: "flags", Data: &c.flags},
	}
}

func (c *voidColumns) add(s *Scan, digest uint32, received time.Time, clock bool) {
	c.org.add(s.Org)
	c.eventID.add(s.EventID)
	c.digest = append(c.digest, digest)
	c.promptness = append(c.promptness, promptness(tableTime(s.Time), tableTime(s.Sent), received))
	c.time = append(c.time, tableTime(s.Time).UnixMilli())
	c.sent = append(c.sent, tableTime(s.Sent).UnixMilli())
	c.reverses.add(s.Reverses)
	c.settlement.add(s.Settlement)
	c.batchNo.add(s.BatchNo)
	for _, kind := range s.VoidKinds {
		c.voidKind.push(string(kind))
	}
	c.voidKind.end()
	c.clock = append(c.clock, clock)
}

func (c *voidColumns) input() proto.Input {
	return proto.Input{
		{Name: "org", Data: &c.org},
		{Name: "event_id", Data: &c.eventID},
		{Name: "digest", Data: &c.digest},
		{Name: "promptness", Data: &c.promptness},
		{Name: "time", Data: typed{&c.time, typeTime}},
		{Name: "sent", Data: typed{&c.sent, typeTime}},
		{Name: "reverses", Data: &c.reverses},
		{Name: "settlement", Data: &c.settlement},
		{Name: "batch_no", Data: &c.batchNo},
		{Name: "void_kind", Data: &c.voidKind},
		{Name: "clock", Data: &c.clock},
	}
}

// Send inserts the block and returns when the engine has stored it: first the
// vault, then the voids, then the scans, so that what is visible can always be
// resolved and judged. Sending the same block again changes nothing. token, when
// not empty, must be the same for the same rows and no others.
func (b *Block) Send(ctx context.Context, conn *Conn, token string) error {
	if len(b.vault) > 0 {
		var persons, numbers texts
		for _, one := range b.vault {
			persons.add(one.pseudonym)
			numbers.add(one.number)
		}
		// Without a token: which persons are new to the vault depends on who is asked, so
		// the same messages may come with others. The table keeps one of each.
		err := conn.inserter.insert(ctx, "person_vault", "", proto.Input{{Name: "person", Data: &persons}, {Name: "number", Data: &numbers}})
		if err != nil {
			return err
		}
	}
	if b.voids.eventID.rows > 0 {
		if err := conn.inserter.insert(ctx, "voids", token, b.voids.input()); err != nil {
			return err
		}
	}
	if b.Rows() > 0 {
		if err := conn.inserter.insert(ctx, "scan_rows", token, b.columns.input()); err != nil {
			return err
		}
	}
	for _, one := range b.vault {
		one.vaulted.Store(true)
	}
	return nil
}
