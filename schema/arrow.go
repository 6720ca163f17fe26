package schema

import (
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// IsArrow tells whether a message is to be read with OpenArrow: by its content
// type, or when it has none by how it begins.
func IsArrow(payload []byte, contentType string) bool {
	kind, _, _ := strings.Cut(contentType, ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	return kind == ContentArrow || kind == "" && len(payload) >= 4 && binary.LittleEndian.Uint32(payload) == arrowMark
}

// ArrowMessage is a message that is one Arrow IPC stream of scans: a column for
// each field of the contract that anybody used, a row for each event. It reads
// from the message where that is, so the bytes of the message must not change.
// It is not safe for concurrent use.
type ArrowMessage struct {
	batches []arrowBatch
	rows    int
	columns [memberCount]arrowWords
	home    *Home // set by From
}

// From has Add refuse rows that are not at home in h. It is called before Add.
func (m *ArrowMessage) From(h Home) { m.home = &h }

// foreign tells whether v is another institution or region than the message's.
func (m *ArrowMessage) foreign(f member, v string) bool {
	switch {
	case m.home == nil:
	case f == fOrg:
		return v != m.home.Org
	case f == fRegion:
		return v != m.home.Region
	}
	return false
}

// arrowBatch is one record batch.
type arrowBatch struct {
	first   int // its first row, in the message
	rows    int
	columns [memberCount]*arrowColumn // nil when the stream has no such column
	unknown []arrowPresence
}

// arrowPresence says which cells of a column that is left out are not null.
type arrowPresence struct {
	valid []byte // nil: all of them
}

// arrowWords is what was found out about a dictionary as one field of the
// contract. A dictionary is judged once, not once a row.
type arrowWords struct {
	dict *arrowDict
	odd  []bool // words that need a closer look, nil when none does

	// The numbers the words have in a column of a block.
	block *Block
	round uint64
	keys  []uint32
}

// noKey is the number of a word nobody asked the block for yet.
const noKey = ^uint32(0)

// OpenArrow reads the columns of a message and leaves what is in them to Add. A
// Refusal is one of the whole message: it is not an Arrow IPC stream or not a
// whole one, a column is missing that every event must have, a column cannot be
// read as what its field holds.
func OpenArrow(payload []byte) (m *ArrowMessage, why *Refusal) {
	defer func() {
		// Everything is checked before it is used, here and in the libraries that
		// unpack. Should one check be missing, a message that comes again and again
		// must not end the process again and again.
		if recover() != nil {
			m, why = nil, &Refusal{Code: RefuseMessage, Reason: "the Arrow stream is broken"}
		}
	}()
	m = &ArrowMessage{}
	s := &arrowStream{memory: maxArrowMemory, text: maxArrowText, wanted: map[int64]*arrowField{}, dicts: map[int64]*arrowDict{}}
	var fields []member // by column
	err := s.read(payload,
		func() (err error) {
			fields, err = arrowMembers(s.fields)
			return err
		},
		func(c *arrowCursor) error { return m.load(c, fields) })
	if err == nil && len(m.batches) == 0 {
		err = brokenArrow("the Arrow stream has no record batch")
	}
	if err != nil {
		var fault *arrowFault
		if errors.As(err, &fault) {
			return nil, &fault.Refusal
		}
		return nil, &Refusal{Code: RefuseMessage, Reason: "the Arrow stream is broken"}
	}
	return m, nil
}

// arrowMembers says which field of the contract each column is.
func arrowMembers(columns []arrowField) ([]member, error) {
	refuse := func(code string, f member, reason string) error {
		return &arrowFault{Refusal{Code: code, Field: members[f].name, Reason: reason}}
	}
	var seen, present [memberCount]bool
	fields := make([]member, len(columns))
	for i := range columns {
		f := memberOf([]byte(columns[i].name))
		fields[i] = f
		if f == fUnknown {
			continue
		}
		if seen[f] {
			return nil, refuse(RefuseMessage, f, "the stream has two columns of this name")
		}
		seen[f] = true
		if reason := readable(f, &columns[i]); reason != "" {
			return nil, refuse(RefuseType, f, reason)
		}
		present[f] = columns[i].kind != arrowNull
	}
	for _, f := range requiredMembers {
		if !present[f] {
			return nil, refuse(RefuseMissing, f, "is required, and the stream has no such column")
		}
	}
	return fields, nil
}

var requiredMembers = [...]member{fEventID, fKind, fTime, fOrg, fRegion}

// load takes a record batch in.
func (m *ArrowMessage) load(c *arrowCursor, fields []member) error {
	const each = 256 // bytes to remember a column by
	if err := c.stream.spend(each * len(fields)); err != nil {
		return err
	}
	if m.rows+c.rows > maxArrowRows {
		return tooManyRows()
	}
	batch := arrowBatch{first: m.rows, rows: c.rows}
	for i, f := range fields {
		var rows int
		if f == fUnknown {
			valid, some, n, err := c.pass(&c.stream.fields[i])
			if err != nil {
				return err
			}
			if some {
				batch.unknown = append(batch.unknown, arrowPresence{valid})
			}
			rows = n
		} else {
			column, err := c.load(&c.stream.fields[i])
			if err != nil {
				return err
			}
			if column.cells != cellsNull {
				batch.columns[f] = column
			}
			rows = column.rows
		}
		if c.meta.bad || rows != c.rows {
			return errArrowMeta
		}
	}
	m.rows += c.rows
	m.batches = append(m.batches, batch)
	return nil
}

// Rows is how many events the message holds, over all its record batches.
func (m *ArrowMessage) Rows() int { return m.rows }

// Add appends the events of rows from to to (not included) to b, as Block.Add
// would after Scan.DecodeJSON. It returns how many cells were not null in columns
// that are not in the contract.
//
// A row that breaks the contract is not added. refuse gets its position in the
// message, the row as a JSON object of the cells that are not null, what of the
// event could be read as DecodeJSON leaves it, and why. It may keep them all.
//
// Rows are a function of the message alone: any cut gives the same.
func (m *ArrowMessage) Add(b *Block, from, to int, seq uint64, received time.Time,
	refuse func(position int, raw []byte, scan *Scan, why Refusal)) (unknown int) {
	w := arrowWorks.Get().(*arrowWork)
	defer arrowWorks.Put(w)
	defer w.forget()
	w.message, w.block, w.seq, w.received, w.refuse = m, b, seq, received, refuse
	for i := m.batchOf(from); i < len(m.batches) && m.batches[i].first < to; i++ {
		batch := &m.batches[i]
		at, end := max(from-batch.first, 0), min(to-batch.first, batch.rows)
		for _, column := range batch.unknown {
			unknown += column.count(at, end)
		}
		for at < end {
			at += w.add(batch, at, end)
		}
	}
	return unknown
}

func (p arrowPresence) count(from, to int) int {
	if p.valid == nil {
		return to - from
	}
	n := 0
	for i := from; i < to; {
		if i&7 == 0 && to-i >= 8 {
			n += bits.OnesCount8(p.valid[i>>3])
			i += 8
			continue
		}
		n += int(p.valid[i>>3] >> (i & 7) & 1)
		i++
	}
	return n
}

// arrowChunk is how many rows are worked on at a time: so many that what is done
// once a column does not show, so few that they stay near the processor.
const arrowChunk = 256

// arrowWork is the room to add rows in, and a chunk of them as columns: for each
// row of the chunk its text, its number and so on.
type arrowWork struct {
	message  *ArrowMessage
	block    *Block
	seq      uint64
	received time.Time
	refuse   func(position int, raw []byte, scan *Scan, why Refusal)

	batch *arrowBatch
	at    int              // the first row of the chunk, in its batch
	odd   [arrowChunk]bool // rows that are decoded as JSON, as something about them is not plain
	count [arrowChunk]int  // rows of the table an event makes
	text  [memberCount][]string
	words [memberCount][]uint32 // by number in the dictionary of the batch, from 1
	times [memberCount][]time.Time
	micro [memberCount][]Number
	split []bool

	codes, kinds arrowLists
	voids        []Kind // of the row being added
	scan         Scan   // the row being added; its text lies in the message
	texts        []arrowText

	raw     []byte  // the row being decoded as JSON
	decoder Decoder // of such rows
}

// arrowText says from where a field of scan is filled.
type arrowText struct {
	to   *string
	from []string
}

// arrowLists are the cells of a list for each row of a chunk.
type arrowLists struct {
	from, to [arrowChunk]int
	text     []string
}

// arrowWorks saves each call the room to work in.
var arrowWorks = sync.Pool{New: func() any { return &arrowWork{} }}

// forget lets the message go.
func (w *arrowWork) forget() {
	w.message, w.block, w.refuse, w.batch = nil, nil, nil, nil
	w.scan = Scan{}
	if cap(w.raw) > 64<<10 {
		w.raw = nil // only a giant row needed that much
	}
	for f := range w.text {
		clear(w.text[f])
	}
	clear(w.codes.text)
	clear(w.kinds.text)
	w.codes.text, w.kinds.text = w.codes.text[:0], w.kinds.text[:0]
}

// room is a slice of n, made when it is first asked for.
func room[T any](of *[]T, n int) []T {
	if cap(*of) < n {
		*of = make([]T, max(n, arrowChunk))
	}
	*of = (*of)[:n]
	return *of
}

// add adds rows of a batch from at on, not past end, and returns how many.
func (w *arrowWork) add(batch *arrowBatch, at, end int) int {
	n := min(end-at, arrowChunk)
	for _, f := range [...]member{fCodes, fVoidKind} {
		// A chunk of long lists would need much room; a list too long is not even read.
		column := batch.columns[f]
		for column != nil && column.items != nil && n > 1 && column.offset(at+n)-column.offset(at) > 16*arrowChunk {
			n /= 2
		}
	}
	w.batch, w.at = batch, at
	odd := w.odd[:n]
	clear(odd)
	w.read(odd)
	w.scan = Scan{}
	w.texts = w.texts[:0]
	for f := range memberCount {
		if to := w.scan.word(f); to != nil && batch.columns[f] != nil {
			w.texts = append(w.texts, arrowText{to, w.text[f]})
		}
	}
	for i := 0; i < n; {
		k := i
		for k < n && !odd[k] {
			k++
		}
		if k > i {
			w.plain(i, k)
		}
		for ; k < n && odd[k]; k++ {
			w.closer(k)
		}
		i = k
	}
	return n
}

// read fills the chunk from the columns and marks rows in which a cell is not
// plainly what the contract wants. What is not marked DecodeJSON would accept,
// and read as the same.
func (w *arrowWork) read(odd []bool) {
	n := len(odd)
	for f := range memberCount {
		column := w.batch.columns[f]
		if column == nil {
			continue
		}
		switch members[f].form {
		case formTime:
			column.fillTimes(room(&w.times[f], n), room(&w.text[f], n), odd, w.at, f == fTime)
		case formDate:
			column.fillDates(room(&w.times[f], n), room(&w.text[f], n), odd, w.at)
		case formBool:
			column.fillBools(room(&w.split, n), w.at)
		case formAbove0, formFrom0:
			numbers := room(&w.micro[f], n)
			column.fillNumbers(numbers, odd, w.at)
			if members[f].form == formAbove0 {
				for i, number := range numbers {
					odd[i] = odd[i] || number.Known && number.Micro == 0
				}
			}
		case formCodes:
			w.readList(f, &w.codes, column, odd)
		case formKinds:
			w.readList(f, &w.kinds, column, odd)
		default:
			w.readText(f, column, odd)
		}
	}
	w.readWhole(odd)
}

func (w *arrowWork) readText(f member, column *arrowColumn, odd []bool) {
	text := room(&w.text[f], len(odd))
	if column.cells == cellsDict {
		numbers := room(&w.words[f], len(odd))
		column.fill(text, numbers, w.at)
		if bad := w.message.judged(f, column.dict).odd; bad != nil {
			for i, number := range numbers {
				odd[i] = odd[i] || bad[number]
			}
		}
		return
	}
	column.fill(text, nil, w.at)
	if w.message.home != nil && (f == fOrg || f == fRegion) {
		for i, v := range text {
			odd[i] = odd[i] || w.message.foreign(f, v)
		}
	}
	for i, v := range text {
		if !plainText(f, v) || !column.checked && !utf8.ValidString(v) {
			odd[i] = true
		}
	}
}

// judged is what is known about the words of a dictionary as field f.
func (m *ArrowMessage) judged(f member, dict *arrowDict) *arrowWords {
	known := &m.columns[f]
	if known.dict == dict {
		return known
	}
	*known = arrowWords{dict: dict, keys: known.keys[:0]}
	for i, v := range dict.words {
		if !plainText(f, v) || m.foreign(f, v) || dict.broken != nil && dict.broken[i] {
			if known.odd == nil {
				known.odd = make([]bool, len(dict.words))
			}
			known.odd[i] = true
		}
	}
	return known
}

// keysFor are the numbers the words have in a column of b, as far as they were
// asked for.
func (a *arrowWords) keysFor(b *Block) []uint32 {
	if a.block != b || a.round != b.round || len(a.keys) != len(a.dict.words) {
		a.block, a.round = b, b.round
		a.keys = slices.Repeat([]uint32{noKey}, len(a.dict.words))
	}
	return a.keys
}

// plainText tells whether the text of a cell is surely what field f may hold.
func plainText(f member, v string) bool {
	b := bytesOf(v)
	switch most := members[f].max; members[f].form {
	case formText:
		return len(v) <= most // characters are never more
	case formID:
		return len(v) <= most && validID(b)
	case formOrg:
		return v != "" && len(v) <= most && validOrg(b)
	case formRegion:
		return len(v) == 6 && allDigits(b) || v == "" && f != fRegion
	}
	switch f {
	case fKind:
		return kindOf(b) != ""
	case fPay:
		return v == "" || v == PayInsured || v == PaySelf
	case fCredential:
		return slices.Contains(credentials, v)
	case fSetting:
		return v == "" || slices.Contains(settings, v)
	}
	return false
}

// readList reads the codes or the kinds of a void.
func (w *arrowWork) readList(f member, lists *arrowLists, column *arrowColumn, odd []bool) {
	n := len(odd)
	if column.items == nil { // text: a list of one, or of none
		text := room(&lists.text, n)
		column.fill(text, nil, w.at)
		for i, v := range text {
			lists.from[i], lists.to[i] = i, i
			if v != "" {
				lists.to[i]++
				odd[i] = odd[i] || !plainItem(f, column, v)
			}
		}
		return
	}
	first, end := column.offset(w.at), column.offset(w.at+n)
	if end-first > max(16*arrowChunk, MaxCodes) { // one row, see add
		odd[0] = true
		lists.from[0], lists.to[0] = 0, 0
		return
	}
	items := column.items
	text := room(&lists.text, end-first)
	items.fill(text, nil, first)
	for i := range n {
		from, to := column.offset(w.at+i)-first, column.offset(w.at+i+1)-first
		lists.from[i], lists.to[i] = from, to
		if !column.known(w.at + i) {
			lists.to[i] = from
			continue
		}
		if to-from > MaxCodes {
			odd[i] = true
		}
		for k := from; k < to; k++ {
			if items.null(first+k) || !plainItem(f, items, text[k]) {
				odd[i] = true
			}
		}
	}
}

// plainItem tells whether v is surely a code or a kind.
func plainItem(f member, column *arrowColumn, v string) bool {
	if f == fVoidKind {
		kind := kindOf(bytesOf(v))
		return kind != "" && kind != Void
	}
	if column.cells == cellsDict && column.dict.broken == nil {
		return true
	}
	return column.checked || utf8.ValidString(v)
}

// readWhole marks rows whose codes do not go with their kind.
func (w *arrowWork) readWhole(odd []bool) {
	none := w.batch.columns[fCodes] == nil
	for i, kind := range w.text[fKind][:len(odd)] {
		switch kind {
		case string(Sale), string(SaleReturn):
			odd[i] = odd[i] || none || w.codes.from[i] == w.codes.to[i]
		case string(Void):
			odd[i] = odd[i] || !none && w.codes.from[i] != w.codes.to[i]
		}
	}
}

// plain adds rows from to to of the chunk, which keep to the contract.
func (w *arrowWork) plain(from, to int) {
	b, s, columns := w.block, &w.scan, &w.batch.columns
	c := &b.columns
	total := 0
	for i := from; i < to; i++ {
		for _, text := range w.texts {
			*text.to = text.from[i]
		}
		s.Time = w.times[fTime][i]
		s.Sent, s.VoidKinds = time.Time{}, nil
		if columns[fSent] != nil {
			s.Sent = w.times[fSent][i]
		}
		if columns[fMade] != nil {
			s.Made = w.times[fMade][i]
		}
		if columns[fExpires] != nil {
			s.Expires = w.times[fExpires][i]
		}
		if columns[fCodes] != nil {
			s.Codes = w.codes.text[w.codes.from[i]:w.codes.to[i]]
		}
		if columns[fSplit] != nil {
			s.Split = w.split[i]
		}
		if columns[fVoidKind] != nil && s.Kind == Void {
			s.VoidKinds = w.voidKinds(i)
		}
		if columns[fPay] == nil {
			s.Pay = ""
		}
		if columns[fSetting] == nil {
			s.Setting = ""
		}
		s.Quantity = w.number(fQuantity, i)
		s.Price = w.number(fPrice, i)
		s.Days = w.number(fDays, i)
		s.FundPay = w.number(fFundPay, i)

		digest := b.judge(s, w.received)
		n := len(b.items)
		for k := range b.items {
			c.addJudged(s, &b.items[k], n, digest, w.seq, w.received, b.flags)
		}
		if n == 0 {
			c.addJudged(s, nil, 0, digest, w.seq, w.received, b.flags)
			n = 1
		}
		w.count[i] = n
		total += n
	}
	run := arrowRun{w, from, to, total}
	run.words(&c.org, fOrg)
	run.ids(&c.eventID, fEventID)
	run.words(&c.region, fRegion)
	run.words(&c.device, fDevice)
	run.words(&c.operator, fOperator)
	run.words(&c.drug, fDrug)
	run.words(&c.lot, fLot)
	run.dates(&c.made, fMade)
	run.split(c)
	run.numbers(&c.price, fPrice)
	run.numbers(&c.days, fDays)
	run.texts(&c.settlement, fSettlement)
	run.numbers(&c.fundPay, fFundPay)
	run.texts(&c.visit, fVisit)
	run.words(&c.personRegion, fPersonRegion)
	run.credentials(c)
	run.words(&c.doctor, fDoctor)
	run.words(&c.doctorID, fDoctorID)
	run.words(&c.pharmacist, fPharmacist)
	run.words(&c.pharmacistID, fPharmacistID)
	run.texts(&c.rx, fRx)
	run.texts(&c.doc, fDoc)
	run.texts(&c.batchNo, fBatchNo)
	run.words(&c.supplier, fSupplier)
	run.texts(&c.reverses, fReverses)
}

func (w *arrowWork) number(f member, i int) Number {
	if w.batch.columns[f] == nil {
		return Number{}
	}
	return w.micro[f][i]
}

// voidKinds are the kinds of a void, each once.
func (w *arrowWork) voidKinds(i int) []Kind {
	w.voids = w.voids[:0]
	for _, v := range w.kinds.text[w.kinds.from[i]:w.kinds.to[i]] {
		if kind := kindOf(bytesOf(v)); !slices.Contains(w.voids, kind) {
			w.voids = append(w.voids, kind)
		}
	}
	return w.voids
}

// closer takes row i of the chunk through DecodeJSON: what it says of a row is
// the contract, and most such rows are refused.
func (w *arrowWork) closer(i int) {
	w.raw = w.batch.appendJSON(w.raw[:0], w.at+i)
	home := w.message.home
	if s, why := w.decoder.Decode(w.raw); why == nil && (home == nil || home.Foreign(s) == nil) {
		w.block.Add(s, w.seq, w.received)
		return
	}
	raw, s := slices.Clone(w.raw), new(Scan) // theirs to keep
	why := s.DecodeJSON(raw)
	if why == nil && home != nil {
		why = home.Foreign(s)
	}
	if why != nil {
		w.refuse(w.batch.first+w.at+i, raw, s, *why)
	}
}

// JSON is one row as an object of its cells that are not null, as Add gives rows
// that it refuses. It is nil when the message has no such row.
func (m *ArrowMessage) JSON(position int) []byte {
	i := m.batchOf(position)
	if position < 0 || i == len(m.batches) {
		return nil
	}
	return m.batches[i].appendJSON(nil, position-m.batches[i].first)
}

// batchOf finds the batch of a row, or where one would follow.
func (m *ArrowMessage) batchOf(position int) int {
	i, _ := slices.BinarySearchFunc(m.batches, position, func(batch arrowBatch, position int) int {
		return batch.first + batch.rows - 1 - position
	})
	return i
}

func (b *arrowBatch) appendJSON(raw []byte, row int) []byte {
	raw = append(raw, '{')
	for f, column := range b.columns {
		if column == nil || column.null(row) {
			continue
		}
		if raw[len(raw)-1] != '{' {
			raw = append(raw, ',')
		}
		raw = append(raw, '"')
		raw = append(raw, members[f].name...)
		raw = append(raw, '"', ':')
		switch {
		case member(f) != fCodes || column.items != nil:
			raw = column.appendCell(raw, row)
		case column.at(row) == "":
			raw = append(raw, "[]"...)
		default: // one code as text is a list of one
			raw = append(column.appendCell(append(raw, '['), row), ']')
		}
	}
	return append(raw, '}')
}

// arrowRun appends rows of a chunk to the columns of a block that hold a field
// as it was sent, each as many times as its event makes rows.
type arrowRun struct {
	*arrowWork
	from, to int
	total    int // rows of the table
}

func (r *arrowRun) words(to *words, f member) {
	column := r.batch.columns[f]
	if column == nil {
		to.repeat(to.number(""), r.total)
		return
	}
	text := r.text[f]
	if column.cells != cellsDict {
		for i := r.from; i < r.to; i++ {
			to.repeat(to.number(text[i]), r.count[i])
		}
		return
	}
	keys := r.message.judged(f, column.dict).keysFor(r.block)
	numbers := r.arrowWork.words[f]
	for i := r.from; i < r.to; i++ {
		key := keys[numbers[i]]
		if key == noKey {
			key = to.number(text[i])
			keys[numbers[i]] = key
		}
		to.repeat(key, r.count[i])
	}
}

func (r *arrowRun) texts(to *texts, f member) {
	if r.batch.columns[f] == nil {
		to.repeat("", r.total)
		return
	}
	text := r.text[f]
	for i := r.from; i < r.to; i++ {
		to.repeat(text[i], r.count[i])
	}
}

func (r *arrowRun) ids(to *ids, f member) {
	text := r.text[f] // a stream without this column is refused
	for i := r.from; i < r.to; i++ {
		to.repeat(text[i], r.count[i])
	}
}

func (r *arrowRun) dates(to *dates, f member) {
	if r.batch.columns[f] == nil {
		to.repeat(0, false, r.total)
		return
	}
	for i := r.from; i < r.to; i++ {
		day, known := tableDate(r.times[f][i])
		to.repeat(day, known, r.count[i])
	}
}

func (r *arrowRun) numbers(to *numbers, f member) {
	if r.batch.columns[f] == nil {
		to.repeat(Number{}, r.total)
		return
	}
	for i := r.from; i < r.to; i++ {
		to.repeat(r.micro[f][i], r.count[i])
	}
}

func (r *arrowRun) split(to *scanColumns) {
	if r.batch.columns[fSplit] == nil {
		to.split = repeat(to.split, false, r.total)
		return
	}
	for i := r.from; i < r.to; i++ {
		to.split = repeat(to.split, r.arrowWork.split[i], r.count[i])
	}
}

func (r *arrowRun) credentials(to *scanColumns) {
	if r.batch.columns[fCredential] == nil {
		to.credential = repeat(to.credential, credentialNumber(""), r.total)
		return
	}
	for i := r.from; i < r.to; i++ {
		to.credential = repeat(to.credential, credentialNumber(r.text[fCredential][i]), r.count[i])
	}
}
