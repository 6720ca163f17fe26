package schema

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/cespare/xxhash/v2"
	"github.com/shopspring/decimal"
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

// The span a Date32 can hold, and the end of what the driver can write as a
// DateTime64, which goes through nanoseconds. What is outside is stored at the
// edge; such a time is flagged FlagClock anyway.
var (
	tableStart   = time.Date(1900, 1, 2, 0, 0, 0, 0, time.UTC)
	tableTimeEnd = time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC)
	tableDateEnd = time.Date(2299, 12, 30, 0, 0, 0, 0, time.UTC)
)

// promptnessBase is what promptness counts down from, seconds.
const promptnessBase = 1 << 40

// Block collects scans as columns for one insert. The zero value is not usable;
// see NewBlock. It is not safe for concurrent use.
type Block struct {
	key      *PersonKey
	classify *Classifier

	events  int
	bytes   int
	columns scanColumns
	voids   voidColumns
	people  map[string]string // pseudonym to number, of this block
	known   map[string]string // number to pseudonym, kept over blocks; bounded
	items   []Code            // of the event being added
	content []byte            // of the event being added
}

type scanColumns struct {
	code                                                                             []uint64
	codeText, org, eventID                                                           []string
	digest                                                                           []uint32
	promptness, seq                                                                  []uint64
	scheme, product, codeRaw                                                         []string
	codes                                                                            []uint16
	kind                                                                             []string
	time, sentLag                                                                    []int64
	region, device, operator, drug, lot                                              []string
	made, expires                                                                    []*time.Time
	split                                                                            []bool
	quantity, price, days                                                            []*decimal.Decimal
	pay, settlement                                                                  []string
	fundPay                                                                          []*decimal.Decimal
	visit, person, personRegion, credential, setting                                 []string
	doctor, doctorID, pharmacist, pharmacistID, rx, doc, batchNo, supplier, reverses []string
	voidKind, flags                                                                  [][]string
}

type voidColumns struct {
	org, eventID                  []string
	digest                        []uint32
	promptness                    []uint64
	time, sent                    []int64
	reverses, settlement, batchNo []string
	voidKind                      [][]string
	clock                         []bool
}

// knownPersons bounds the memory of pseudonyms already worked out.
const knownPersons = 1 << 17

// NewBlock returns an empty block whose persons are hidden by key and whose
// codes are read by classify.
func NewBlock(key *PersonKey, classify *Classifier) *Block {
	return &Block{key: key, classify: classify, people: map[string]string{}, known: map[string]string{}}
}

// Events is how many scans were added, Rows how many rows they make, Bytes
// about how much memory their text takes.
func (b *Block) Events() int { return b.events }

// Rows is the number of rows of scan_rows the block holds.
func (b *Block) Rows() int { return len(b.columns.code) }

// Bytes is about the memory the block's text takes.
func (b *Block) Bytes() int { return b.bytes }

// Reset empties the block and keeps its memory.
func (b *Block) Reset() {
	b.events, b.bytes = 0, 0
	b.columns.reset()
	b.voids.reset()
	clear(b.people)
}

func (b *Block) pseudonym(number string) string {
	if number == "" {
		return ""
	}
	p, ok := b.known[number]
	if !ok {
		if len(b.known) >= knownPersons {
			clear(b.known)
		}
		p = b.key.Pseudonym(number)
		b.known[number] = p
	}
	b.people[p] = number
	return p
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
	rows, boxes := b.classify.Items(b.items, s.Codes, s.Drug)
	b.items = rows
	e := s.Defaults(boxes)
	e.Person = b.pseudonym(e.Person)
	b.content = e.appendContent(b.content[:0])
	digest := uint32(xxhash.Sum64(b.content))
	b.events++
	b.bytes += len(b.content)

	var flags []string
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
		b.voids.add(&e, digest, received, clock)
	}
	if len(rows) == 0 {
		b.columns.add(&e, nil, xxhash.Sum64String(e.Org+"\x00"+e.EventID), 0, digest, seq, received, flags)
		return
	}
	for i := range rows {
		b.bytes += 64
		b.columns.add(&e, &rows[i], rows[i].number(&e), len(rows), digest, seq, received, flags)
	}
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

// appendContent writes what makes two events with one id the same event: every
// field of the contract, defaults filled in, codes in no order, person hidden.
// The digest of it is stored, so it must not give a number away by trial.
func (s *Scan) appendContent(b []byte) []byte {
	text := func(v string) {
		b = append(b, v...)
		b = append(b, 0)
	}
	number := func(v int64, known bool) {
		if known {
			b = fmt.Appendf(b, "%d", v)
		}
		b = append(b, 0)
	}
	date := func(t time.Time) { number(t.Unix(), !t.IsZero()) }
	text(string(s.Kind))
	number(s.Time.UnixNano(), true)
	number(s.Sent.UnixNano(), true)
	text(s.Region)
	codes := s.Codes
	if !slices.IsSorted(codes) {
		codes = slices.Sorted(slices.Values(codes))
	}
	for _, code := range codes {
		text(code)
	}
	b = append(b, 1)
	for _, v := range []string{
		s.Device, s.Drug, s.Lot, s.Pay, s.Settlement, s.Visit, s.Person, s.PersonRegion, s.Credential, s.Setting,
		s.Doctor, s.DoctorID, s.Pharmacist, s.PharmacistID, s.Operator, s.Rx, s.Doc, s.BatchNo, s.Supplier, s.Reverses,
	} {
		text(v)
	}
	date(s.Made)
	date(s.Expires)
	if s.Split {
		b = append(b, 1)
	}
	for _, n := range []Number{s.Quantity, s.Price, s.Days, s.FundPay} {
		number(n.Micro, n.Known)
	}
	if s.Kind == Void {
		for _, kind := range slices.Sorted(slices.Values(s.VoidKinds)) {
			text(string(kind))
		}
	}
	return b
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

func tableDate(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = between(tableStart, t, tableDateEnd)
	return &t
}

func tableNumber(n Number) *decimal.Decimal {
	if !n.Known {
		return nil
	}
	d := decimal.New(n.Micro, -6)
	return &d
}

func promptness(happened, received time.Time) uint64 {
	return uint64(promptnessBase - (received.Unix() - happened.Unix()))
}

func kindNames(kinds []Kind) []string {
	names := make([]string, len(kinds))
	for i, kind := range kinds {
		names[i] = string(kind)
	}
	return names
}

func (c *scanColumns) add(s *Scan, code *Code, number uint64, codes int, digest uint32, seq uint64, received time.Time, flags []string) {
	happened, sent := tableTime(s.Time), tableTime(s.Sent)
	expires := s.Expires
	if code == nil {
		code = &Code{}
	} else {
		if len(code.Flags) > 0 {
			flags = slices.Concat(flags, code.Flags)
		}
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
	c.codeText = append(c.codeText, text)
	c.org = append(c.org, s.Org)
	c.eventID = append(c.eventID, s.EventID)
	c.digest = append(c.digest, digest)
	c.promptness = append(c.promptness, promptness(happened, received))
	c.seq = append(c.seq, seq)
	c.scheme = append(c.scheme, string(code.Scheme))
	c.product = append(c.product, code.Product)
	c.codeRaw = append(c.codeRaw, raw)
	c.codes = append(c.codes, uint16(codes))
	c.kind = append(c.kind, string(s.Kind))
	c.time = append(c.time, happened.UnixMilli())
	c.sentLag = append(c.sentLag, sent.UnixMilli()-happened.UnixMilli())
	c.region = append(c.region, s.Region)
	c.device = append(c.device, s.Device)
	c.operator = append(c.operator, s.Operator)
	c.drug = append(c.drug, s.Drug)
	c.lot = append(c.lot, s.Lot)
	c.made = append(c.made, tableDate(s.Made))
	c.expires = append(c.expires, tableDate(expires))
	c.split = append(c.split, s.Split)
	c.quantity = append(c.quantity, tableNumber(s.Quantity))
	c.price = append(c.price, tableNumber(s.Price))
	c.days = append(c.days, tableNumber(s.Days))
	c.pay = append(c.pay, s.Pay)
	c.settlement = append(c.settlement, s.Settlement)
	c.fundPay = append(c.fundPay, tableNumber(s.FundPay))
	c.visit = append(c.visit, s.Visit)
	c.person = append(c.person, s.Person)
	c.personRegion = append(c.personRegion, s.PersonRegion)
	c.credential = append(c.credential, s.Credential)
	c.setting = append(c.setting, s.Setting)
	c.doctor = append(c.doctor, s.Doctor)
	c.doctorID = append(c.doctorID, s.DoctorID)
	c.pharmacist = append(c.pharmacist, s.Pharmacist)
	c.pharmacistID = append(c.pharmacistID, s.PharmacistID)
	c.rx = append(c.rx, s.Rx)
	c.doc = append(c.doc, s.Doc)
	c.batchNo = append(c.batchNo, s.BatchNo)
	c.supplier = append(c.supplier, s.Supplier)
	c.reverses = append(c.reverses, s.Reverses)
	c.voidKind = append(c.voidKind, kindNames(s.VoidKinds))
	c.flags = append(c.flags, flags)
}

// fields names the columns of scan_rows with their values, in the order of the table.
func (c *scanColumns) fields() []tableColumn {
	return []tableColumn{
		{"code", c.code}, {"code_text", c.codeText}, {"org", c.org}, {"event_id", c.eventID}, {"digest", c.digest},
		{"promptness", c.promptness}, {"seq", c.seq}, {"scheme", c.scheme}, {"product", c.product}, {"code_raw", c.codeRaw},
		{"codes", c.codes}, {"kind", c.kind}, {"time", c.time}, {"sent_lag", c.sentLag}, {"region", c.region},
		{"device", c.device}, {"operator", c.operator}, {"drug", c.drug}, {"lot", c.lot}, {"made", c.made},
		{"expires", c.expires}, {"split", c.split}, {"quantity", c.quantity}, {"price", c.price}, {"days", c.days},
		{"pay", c.pay}, {"settlement", c.settlement}, {"fund_pay", c.fundPay}, {"visit", c.visit}, {"person", c.person},
		{"person_region", c.personRegion}, {"credential", c.credential}, {"setting", c.setting}, {"doctor", c.doctor},
		{"doctor_id", c.doctorID}, {"pharmacist", c.pharmacist}, {"pharmacist_id", c.pharmacistID}, {"rx", c.rx},
		{"doc", c.doc}, {"batch_no", c.batchNo}, {"supplier", c.supplier}, {"reverses", c.reverses},
		{"void_kind", c.voidKind}, {"flags", c.flags},
	}
}

func (c *scanColumns) reset() {
	c.code, c.codeText, c.org, c.eventID = c.code[:0], c.codeText[:0], c.org[:0], c.eventID[:0]
	c.digest, c.promptness, c.seq = c.digest[:0], c.promptness[:0], c.seq[:0]
	c.scheme, c.product, c.codeRaw, c.codes, c.kind = c.scheme[:0], c.product[:0], c.codeRaw[:0], c.codes[:0], c.kind[:0]
	c.time, c.sentLag = c.time[:0], c.sentLag[:0]
	c.region, c.device, c.operator, c.drug, c.lot = c.region[:0], c.device[:0], c.operator[:0], c.drug[:0], c.lot[:0]
	c.made, c.expires, c.split = c.made[:0], c.expires[:0], c.split[:0]
	c.quantity, c.price, c.days, c.fundPay = c.quantity[:0], c.price[:0], c.days[:0], c.fundPay[:0]
	c.pay, c.settlement, c.visit, c.person = c.pay[:0], c.settlement[:0], c.visit[:0], c.person[:0]
	c.personRegion, c.credential, c.setting = c.personRegion[:0], c.credential[:0], c.setting[:0]
	c.doctor, c.doctorID, c.pharmacist, c.pharmacistID = c.doctor[:0], c.doctorID[:0], c.pharmacist[:0], c.pharmacistID[:0]
	c.rx, c.doc, c.batchNo, c.supplier, c.reverses = c.rx[:0], c.doc[:0], c.batchNo[:0], c.supplier[:0], c.reverses[:0]
	c.voidKind, c.flags = c.voidKind[:0], c.flags[:0]
}

func (c *voidColumns) add(s *Scan, digest uint32, received time.Time, clock bool) {
	c.org = append(c.org, s.Org)
	c.eventID = append(c.eventID, s.EventID)
	c.digest = append(c.digest, digest)
	c.promptness = append(c.promptness, promptness(tableTime(s.Time), received))
	c.time = append(c.time, tableTime(s.Time).UnixMilli())
	c.sent = append(c.sent, tableTime(s.Sent).UnixMilli())
	c.reverses = append(c.reverses, s.Reverses)
	c.settlement = append(c.settlement, s.Settlement)
	c.batchNo = append(c.batchNo, s.BatchNo)
	c.voidKind = append(c.voidKind, kindNames(s.VoidKinds))
	c.clock = append(c.clock, clock)
}

func (c *voidColumns) fields() []tableColumn {
	return []tableColumn{
		{"org", c.org}, {"event_id", c.eventID}, {"digest", c.digest}, {"promptness", c.promptness},
		{"time", c.time}, {"sent", c.sent}, {"reverses", c.reverses}, {"settlement", c.settlement},
		{"batch_no", c.batchNo}, {"void_kind", c.voidKind}, {"clock", c.clock},
	}
}

func (c *voidColumns) reset() { *c = voidColumns{} }

type tableColumn struct {
	name   string
	values any
}

// Send inserts the block and returns when the engine has stored it: first the
// vault, then the voids, then the scans, so that what is visible can always be
// resolved and judged. Sending the same block again changes nothing. token, when
// not empty, must be the same for the same rows and no others.
func (b *Block) Send(ctx context.Context, conn driver.Conn, token string) error {
	if len(b.people) > 0 {
		people := slices.Sorted(maps.Keys(b.people))
		numbers := make([]string, len(people))
		for i, p := range people {
			numbers[i] = b.people[p]
		}
		if err := insert(ctx, conn, "person_vault", token, []tableColumn{{"person", people}, {"number", numbers}}); err != nil {
			return err
		}
	}
	if len(b.voids.org) > 0 {
		if err := insert(ctx, conn, "voids", token, b.voids.fields()); err != nil {
			return err
		}
	}
	if b.Rows() == 0 {
		return nil
	}
	return insert(ctx, conn, "scan_rows", token, b.columns.fields())
}

func insert(ctx context.Context, conn driver.Conn, table, token string, fields []tableColumn) error {
	query := "INSERT INTO " + table + " ("
	for i, f := range fields {
		if i > 0 {
			query += ", "
		}
		query += f.name
	}
	if token != "" {
		ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"insert_deduplication_token": token}))
	}
	batch, err := conn.PrepareBatch(ctx, query+")")
	if err != nil {
		return fmt.Errorf("insert into %s: %w", table, err)
	}
	defer batch.Close()
	for i, f := range fields {
		if err := batch.Column(i).Append(f.values); err != nil {
			return fmt.Errorf("insert into %s, column %s: %w", table, f.name, err)
		}
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("insert into %s: %w", table, err)
	}
	return nil
}
