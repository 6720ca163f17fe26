package schema

import (
	"encoding/binary"
	"math"
	"math/big"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
	"unsafe"
)

// cells is how the cells of a column are stored.
type cells uint8

const (
	cellsNull   cells = iota // every cell is null
	cellsText32              // offsets and text
	cellsText64
	cellsView // of each its length, and a short text or where it stands
	cellsDict // indices into a dictionary of text
	cellsBool
	cellsInt
	cellsFloat32
	cellsFloat64
	cellsDecimal
	cellsTime
	cellsDay // since 1970
	cellsMilli
	cellsList32 // offsets into a column of text
	cellsList64
)

// arrowColumn is a column of one batch, where the message has it. All offsets
// and indices in it were checked when it was loaded.
type arrowColumn struct {
	cells   cells
	rows    int
	valid   []byte // bitmap, nil when no cell is null
	data    []byte // values, views, indices or text
	offsets []byte
	heaps   [][]byte // the text of views
	width   int      // bytes of a number or index
	signed  bool
	scale   int           // of decimals
	unit    time.Duration // of times
	dict    *arrowDict
	items   *arrowColumn // of lists
	checked bool         // every text is UTF-8
}

// arrowDict is a dictionary of text as it stands when a batch is read.
type arrowDict struct {
	words   []string // word n stands at n+1; null, which is no text, at 0
	broken  []bool   // those that are not UTF-8, nil when all are
	longest int
}

// textOf makes a string of a part of the message, without copying it.
func textOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// bytesOf is the way back. Nobody may write into them.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// readable says what is wrong with a column for a field of the contract.
func readable(f member, column *arrowField) (reason string) {
	text := func(column *arrowField) bool {
		switch column.kind {
		case arrowUTF8, arrowLargeUTF8, arrowUTF8View, arrowBinary, arrowLargeBinary, arrowBinaryView:
			return true
		}
		return column.kind == arrowNull && !column.coded
	}
	if text(column) {
		switch members[f].form {
		case formBool, formAbove0, formFrom0:
			if column.kind == arrowNull {
				return ""
			}
		default:
			return ""
		}
	}
	want, ok := "text", false
	switch members[f].form {
	case formTime:
		want = "a timestamp with zone, or text"
		ok = column.kind == arrowTimestamp && column.zoned && column.unit <= 3
		if column.kind == arrowTimestamp && !column.zoned {
			want += ": without a zone nobody knows the offset"
		}
	case formDate:
		want, ok = "a date, or text", column.kind == arrowDate && column.unit <= 1
	case formBool:
		want, ok = "a bool", column.kind == arrowBool
	case formAbove0, formFrom0:
		want = "a number"
		const half = 0
		ok = column.kind == arrowInt && (column.width == 8 || column.width == 16 || column.width == 32 || column.width == 64) ||
			column.kind == arrowFloat && column.unit > half && column.unit <= 2 ||
			column.kind == arrowDecimal && (column.width == 128 || column.width == 256)
	case formCodes, formKinds:
		want = "a list of text"
		ok = (column.kind == arrowList || column.kind == arrowLargeList) && len(column.children) == 1 && text(&column.children[0])
	}
	if ok && !column.coded {
		return ""
	}
	return "the column is " + column.String() + ", want " + want
}

// load reads the next column, of which readable had nothing to say.
func (c *arrowCursor) load(f *arrowField) (*arrowColumn, error) {
	rows, nulls, err := c.node()
	if err != nil {
		return nil, err
	}
	column := &arrowColumn{rows: rows}
	if f.kind == arrowNull {
		return column, nil
	}
	views := 0
	if !f.coded && (f.kind == arrowUTF8View || f.kind == arrowBinaryView) {
		if views, err = c.variadic(); err != nil {
			return nil, err
		}
	}
	if column.valid, err = c.validity(rows, nulls); err != nil {
		return nil, err
	}
	if f.coded {
		return column, c.loadIndices(f, column)
	}
	switch f.kind {
	case arrowUTF8, arrowBinary:
		column.cells = cellsText32
		err = c.loadText(column)
	case arrowLargeUTF8, arrowLargeBinary:
		column.cells = cellsText64
		err = c.loadText(column)
	case arrowUTF8View, arrowBinaryView:
		column.cells = cellsView
		err = c.loadViews(column, views)
	case arrowBool:
		column.cells = cellsBool
		column.data, err = c.buffer((rows + 7) / 8)
	case arrowInt:
		column.cells, column.width, column.signed = cellsInt, f.width/8, f.signed
		column.data, err = c.buffer(rows * column.width)
	case arrowFloat:
		const single = 1
		column.cells, column.width = cellsFloat64, 8
		if f.unit == single {
			column.cells, column.width = cellsFloat32, 4
		}
		column.data, err = c.buffer(rows * column.width)
	case arrowDecimal:
		column.cells, column.width, column.scale = cellsDecimal, f.width/8, f.scale
		column.data, err = c.buffer(rows * column.width)
	case arrowTimestamp:
		column.cells, column.width, column.unit = cellsTime, 8, time.Second
		for range f.unit {
			column.unit /= 1000
		}
		column.data, err = c.buffer(rows * column.width)
	case arrowDate:
		column.cells, column.width = cellsMilli, 8
		if f.unit == arrowDateDay {
			column.cells, column.width = cellsDay, 4
		}
		column.data, err = c.buffer(rows * column.width)
	case arrowList, arrowLargeList:
		column.cells = cellsList32
		if f.kind == arrowLargeList {
			column.cells = cellsList64
		}
		err = c.loadList(f, column)
	}
	return column, err
}

// loadOffsets reads the offsets of texts and lists. end checks them against how
// much there is to point into.
func (c *arrowCursor) loadOffsets(column *arrowColumn) (err error) {
	if column.rows == 0 {
		return c.skip(1) // may be empty
	}
	width := 4
	if column.cells == cellsText64 || column.cells == cellsList64 {
		width = 8
	}
	column.offsets, err = c.buffer((column.rows + 1) * width)
	return err
}

func (column *arrowColumn) checkOffsets(end int) error {
	if column.rows == 0 {
		return nil
	}
	last := column.offset(0)
	ok := last >= 0
	if column.cells == cellsText32 || column.cells == cellsList32 {
		at := int32(last)
		for offsets := column.offsets[4 : 4*(column.rows+1)]; len(offsets) >= 4; offsets = offsets[4:] {
			next := int32(binary.LittleEndian.Uint32(offsets))
			ok = ok && next >= at
			at = next
		}
		last = int(at)
	} else {
		for i := range column.rows {
			next := column.offset(i + 1)
			ok = ok && next >= last
			last = next
		}
	}
	if !ok || last > end {
		return brokenArrow("a column of the Arrow stream points outside itself")
	}
	return nil
}

// offset is where cell i begins, and cell i-1 ends.
func (column *arrowColumn) offset(i int) int {
	if column.cells == cellsText32 || column.cells == cellsList32 {
		return int(int32(binary.LittleEndian.Uint32(column.offsets[4*i:])))
	}
	return int(binary.LittleEndian.Uint64(column.offsets[8*i:]))
}

func (c *arrowCursor) loadText(column *arrowColumn) (err error) {
	if err = c.loadOffsets(column); err != nil {
		return err
	}
	if column.data, err = c.buffer(0); err != nil {
		return err
	}
	if err = column.checkOffsets(len(column.data)); err != nil || column.rows == 0 {
		return err
	}
	from, to := column.offset(0), column.offset(column.rows)
	all := column.data[from:to]
	if ascii(all) {
		column.checked = true
		return nil
	}
	if column.checked = utf8.Valid(all); column.checked {
		// Valid together, but a character may lie across two cells.
		for i := range column.rows {
			if at := column.offset(i); at < to && !utf8.RuneStart(column.data[at]) {
				column.checked = false
			}
		}
	}
	return nil
}

func ascii(b []byte) bool {
	const high = 0x8080808080808080
	for ; len(b) >= 8; b = b[8:] {
		if binary.LittleEndian.Uint64(b)&high != 0 {
			return false
		}
	}
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// viewInline is the longest text that stands in the view itself.
const viewInline = 12

func (c *arrowCursor) loadViews(column *arrowColumn, n int) (err error) {
	if column.data, err = c.buffer(16 * column.rows); err != nil {
		return err
	}
	column.heaps = make([][]byte, n)
	for i := range column.heaps {
		if column.heaps[i], err = c.buffer(0); err != nil {
			return err
		}
	}
	total := 0
	for i := range column.rows {
		if !column.known(i) {
			continue
		}
		view := column.data[16*i : 16*i+16]
		size := int(int32(binary.LittleEndian.Uint32(view)))
		ok := size >= 0
		if size > viewInline {
			heap, at := int(int32(binary.LittleEndian.Uint32(view[8:]))), int(int32(binary.LittleEndian.Uint32(view[12:])))
			ok = heap >= 0 && heap < n && at >= 0 && at <= len(column.heaps[heap])-size
		}
		if !ok {
			return brokenArrow("a column of the Arrow stream points outside itself")
		}
		total += size
	}
	return c.stream.repeat(total)
}

func (c *arrowCursor) loadList(f *arrowField, column *arrowColumn) (err error) {
	if err = c.loadOffsets(column); err != nil {
		return err
	}
	if column.items, err = c.load(&f.children[0]); err != nil {
		return err
	}
	return column.checkOffsets(column.items.rows)
}

var noWords = &arrowDict{words: []string{""}}

func (c *arrowCursor) loadIndices(f *arrowField, column *arrowColumn) (err error) {
	column.cells, column.width = cellsDict, f.index/8
	if column.data, err = c.buffer(column.rows * column.width); err != nil {
		return err
	}
	column.dict = c.stream.dicts[f.dict]
	if column.dict == nil {
		column.dict = noWords // no harm when all is null
	}
	words := column.dict.words
	// Adding up what every row names takes time, and is seldom needed.
	const surely = 16 << 20
	total := column.dict.longest * column.rows
	count := total > surely
	if count {
		total = 0
	}
	for i := range column.rows {
		if !column.known(i) {
			continue
		}
		n := column.index(i)
		if n >= uint64(len(words)-1) {
			return brokenArrow("a column of the Arrow stream names a word its dictionary does not have")
		}
		if count {
			total += len(words[n+1])
		}
	}
	return c.stream.repeat(total)
}

// known tells whether cell i is not null.
func (column *arrowColumn) known(i int) bool {
	return column.valid == nil || column.valid[i>>3]&(1<<(i&7)) != 0
}

func (column *arrowColumn) index(i int) uint64 {
	switch column.width {
	case 1:
		return uint64(column.data[i])
	case 2:
		return uint64(binary.LittleEndian.Uint16(column.data[2*i:]))
	case 4:
		return uint64(binary.LittleEndian.Uint32(column.data[4*i:]))
	}
	return binary.LittleEndian.Uint64(column.data[8*i:])
}

// dictionary takes a dictionary batch in: a new one, one in the place of
// another, or more words for one.
func (s *arrowStream) dictionary(f *flat, head int, body []byte) error {
	id, delta := f.number64(head, 0), f.number8(head, 2, 0) != 0
	data := f.child(head, 1)
	if f.bad || data == 0 {
		return errArrowMeta
	}
	field := s.wanted[id]
	if field == nil {
		return nil // of a column nobody asks for
	}
	c, err := s.cursor(f, data, body)
	if err != nil {
		return err
	}
	values := *field
	values.coded = false
	column, err := c.load(&values)
	if err != nil {
		return err
	}
	if column.rows > maxArrowRows {
		return tooManyRows()
	}
	old := s.dicts[id]
	if old == nil || !delta {
		old = noWords
	}
	known := len(old.words)
	const each = 2*16 + 1 // a string, twice while the slice grows, and a mark
	if err := s.spend(each * (known + column.rows)); err != nil {
		return err
	}
	dict := &arrowDict{words: slices.Concat(old.words, make([]string, column.rows)), broken: old.broken, longest: old.longest}
	fresh := dict.words[known:]
	column.fill(fresh, nil, 0)
	broken := make([]bool, len(dict.words))
	copy(broken, old.broken)
	for i, word := range fresh {
		dict.longest = max(dict.longest, len(word))
		if !column.checked && !utf8.ValidString(word) {
			broken[known+i] = true
			dict.broken = broken
		}
	}
	if dict.broken != nil {
		dict.broken = broken
	}
	s.dicts[id] = dict
	return nil
}

// want notes to which field a dictionary belongs, of those that are read.
func (s *arrowStream) want() {
	note := func(f *arrowField) {
		if f.coded && s.wanted[f.dict] == nil {
			s.wanted[f.dict] = f
		}
	}
	for i := range s.fields {
		f := &s.fields[i]
		if memberOf([]byte(f.name)) == fUnknown {
			continue
		}
		note(f)
		if len(f.children) == 1 {
			note(&f.children[0])
		}
	}
}

// fill gives the text of the cells from from on, "" where there is none. Of a
// dictionary it also gives the numbers of the words, counted from 1.
func (column *arrowColumn) fill(to []string, numbers []uint32, from int) {
	if len(to) == 0 {
		return
	}
	switch column.cells {
	case cellsText32:
		at := binary.LittleEndian.Uint32(column.offsets[4*from:])
		offsets := column.offsets[4*(from+1):]
		for i := range to {
			end := binary.LittleEndian.Uint32(offsets[4*i:])
			to[i] = textOf(column.data[at:end])
			at = end
		}
	case cellsText64:
		for i := range to {
			to[i] = textOf(column.data[column.offset(from+i):column.offset(from+i+1)])
		}
	case cellsView:
		for i := range to {
			if !column.known(from + i) {
				continue // nobody checked what it points to
			}
			view := column.data[16*(from+i):]
			if size := binary.LittleEndian.Uint32(view); size <= viewInline {
				to[i] = textOf(view[4 : 4+size])
			} else {
				at := binary.LittleEndian.Uint32(view[12:])
				to[i] = textOf(column.heaps[binary.LittleEndian.Uint32(view[8:])][at : at+size])
			}
		}
	case cellsDict:
		words := column.dict.words
		for i := range to {
			var n uint64
			if column.known(from + i) {
				n = column.index(from+i) + 1
			}
			to[i] = words[n]
			if numbers != nil {
				numbers[i] = uint32(n)
			}
		}
		return
	}
	if column.cells == cellsNull {
		clear(to)
	} else if column.valid != nil {
		for i := range to {
			if !column.known(from + i) {
				to[i] = ""
			}
		}
	}
}

// The seconds of the years 1 to 9999, as Shanghai counts them.
var (
	arrowFirst = time.Date(1, 1, 1, 0, 0, 0, 0, Shanghai).Unix()
	arrowEnd   = time.Date(10000, 1, 1, 0, 0, 0, 0, Shanghai).Unix()
)

// instant is the time of cell i.
func (column *arrowColumn) instant(i int) (seconds, nanos int64) {
	v := int64(binary.LittleEndian.Uint64(column.data[8*i:]))
	each := int64(time.Second / column.unit)
	seconds, nanos = v/each, v%each
	if nanos < 0 {
		seconds, nanos = seconds-1, nanos+each
	}
	return seconds, nanos * int64(column.unit)
}

// fillTimes gives times, zero where there is none. odd is set where the cell
// needs a closer look.
func (column *arrowColumn) fillTimes(to []time.Time, text []string, odd []bool, from int, required bool) {
	if column.cells != cellsTime {
		column.fill(text, nil, from)
		for i, v := range text {
			to[i] = time.Time{}
			if v == "" {
				odd[i] = odd[i] || required
				continue
			}
			t, ok := parseTime(bytesOf(v))
			if !ok || t.Unix() < arrowFirst || t.Unix() >= arrowEnd {
				odd[i] = true
				continue
			}
			to[i] = t
		}
		return
	}
	for i := range to {
		to[i] = time.Time{}
		if !column.known(from + i) {
			odd[i] = odd[i] || required
			continue
		}
		seconds, nanos := column.instant(from + i)
		if seconds < arrowFirst || seconds >= arrowEnd {
			odd[i] = true
			continue
		}
		to[i] = time.Unix(seconds, nanos).In(Shanghai)
	}
}

// The days of the years 1 to 9999, since 1970.
const (
	arrowFirstDay = -719162
	arrowLastDay  = 2932896
	daySeconds    = 24 * 60 * 60
	dayMillis     = daySeconds * 1000
)

// day is the day of cell i, and whether it is a whole one.
func (column *arrowColumn) day(i int) (int64, bool) {
	if column.cells == cellsDay {
		return int64(int32(binary.LittleEndian.Uint32(column.data[4*i:]))), true
	}
	v := int64(binary.LittleEndian.Uint64(column.data[8*i:]))
	return v / dayMillis, v%dayMillis == 0
}

func (column *arrowColumn) fillDates(to []time.Time, text []string, odd []bool, from int) {
	if column.cells != cellsDay && column.cells != cellsMilli {
		column.fill(text, nil, from)
		for i, v := range text {
			to[i] = time.Time{}
			if v == "" {
				continue
			}
			t, ok := parseDate(bytesOf(v))
			if !ok {
				odd[i] = true
				continue
			}
			to[i] = t
		}
		return
	}
	for i := range to {
		to[i] = time.Time{}
		if !column.known(from + i) {
			continue
		}
		day, whole := column.day(from + i)
		if !whole || day < arrowFirstDay || day > arrowLastDay {
			odd[i] = true
			continue
		}
		to[i] = time.Unix(day*daySeconds, 0).UTC()
	}
}

func (column *arrowColumn) fillBools(to []bool, from int) {
	for i := range to {
		to[i] = column.truth(from + i)
	}
}

func (column *arrowColumn) truth(i int) bool {
	return column.cells == cellsBool && column.known(i) && column.data[i>>3]&(1<<(i&7)) != 0
}

var powersOf10 = [...]int64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18}

// fillNumbers gives numbers, unknown where there is none. odd is set where the
// cell needs a closer look: where it is negative, or too large, or has more
// places than can be worked out here.
func (column *arrowColumn) fillNumbers(to []Number, odd []bool, from int) {
	for i := range to {
		to[i] = Number{}
		if column.cells == cellsNull || !column.known(from+i) {
			continue
		}
		micro, ok := column.micro(from + i)
		if !ok {
			odd[i] = true
			continue
		}
		to[i] = Number{Micro: micro, Known: true}
	}
}

// micro is cell i in millionths, when that is plain.
func (column *arrowColumn) micro(i int) (int64, bool) {
	switch column.cells {
	case cellsFloat64:
		// When the decimal of that many millionths is read as this number, it is the
		// shortest that is: two decimals of 15 digits are never one number.
		v := math.Float64frombits(binary.LittleEndian.Uint64(column.data[8*i:]))
		if micro := math.Round(v * 1e6); micro >= 0 && micro < 1e15 && micro/1e6 == v {
			return int64(micro), true
		}
		return shortest(v, 64)
	case cellsFloat32:
		return shortest(float64(math.Float32frombits(binary.LittleEndian.Uint32(column.data[4*i:]))), 32)
	case cellsInt:
		v := column.integer(i)
		return v * 1e6, v >= 0 && v < maxMicro/1e6
	case cellsDecimal:
		low, sign := binary.LittleEndian.Uint64(column.data[column.width*i:]), column.width*i+8
		for ; sign < column.width*(i+1); sign += 8 {
			if binary.LittleEndian.Uint64(column.data[sign:]) != 0 {
				return 0, false
			}
		}
		places := column.scale - 6
		switch {
		case low >= maxMicro || places < -12 || places > 12:
			return 0, false
		case places <= 0:
			times := powersOf10[-places]
			return int64(low) * times, int64(low) < maxMicro/times
		default:
			part := powersOf10[places]
			return (int64(low) + part/2) / part, true
		}
	}
	return 0, false
}

// shortest is the shortest decimal that is read as v, in millionths.
func shortest(v float64, bits int) (int64, bool) {
	if !(v >= 0) || math.IsInf(v, 0) {
		return 0, false
	}
	var room [32]byte
	return parseNumber(strconv.AppendFloat(room[:0], v, 'g', -1, bits))
}

// integer is cell i, with the largest integer for what is larger.
func (column *arrowColumn) integer(i int) int64 {
	v := column.index(i)
	if column.signed {
		shift := 64 - 8*column.width
		return int64(v<<shift) >> shift
	}
	return int64(min(v, math.MaxInt64))
}

// appendCell writes cell i of field f as JSON has it, as well as can be: text
// byte for byte, numbers and dates whatever they are.
func (column *arrowColumn) appendCell(b []byte, i int) []byte {
	switch column.cells {
	case cellsText32, cellsText64, cellsView, cellsDict:
		return appendRaw(b, column.at(i))
	case cellsBool:
		return strconv.AppendBool(b, column.truth(i))
	case cellsInt:
		if !column.signed {
			return strconv.AppendUint(b, column.index(i), 10)
		}
		return strconv.AppendInt(b, column.integer(i), 10)
	case cellsFloat32:
		return appendFloat(b, float64(math.Float32frombits(binary.LittleEndian.Uint32(column.data[4*i:]))), 32)
	case cellsFloat64:
		return appendFloat(b, math.Float64frombits(binary.LittleEndian.Uint64(column.data[8*i:])), 64)
	case cellsDecimal:
		return appendDecimal(b, column.data[column.width*i:column.width*(i+1)], column.scale)
	case cellsTime:
		seconds, nanos := column.instant(i)
		const most = 1 << 40 // seconds: some years no clock shows, and not yet an overflow
		return appendTime(b, time.Unix(min(max(seconds, -most), most), nanos))
	case cellsDay, cellsMilli:
		day, whole := column.day(i)
		t := time.Unix(min(max(day, -1<<31), 1<<31)*daySeconds, 0).UTC()
		if !whole {
			return t.AppendFormat(b, `"2006-01-02 and a part of a day"`)
		}
		return t.AppendFormat(b, `"2006-01-02"`)
	case cellsList32, cellsList64:
		b = append(b, '[')
		for k := column.offset(i); k < column.offset(i+1); k++ {
			if k > column.offset(i) {
				b = append(b, ',')
			}
			if column.items.null(k) {
				b = append(b, "null"...)
			} else {
				b = appendRaw(b, column.items.at(k))
			}
		}
		return append(b, ']')
	}
	return append(b, "null"...)
}

// at is the text of cell i.
func (column *arrowColumn) at(i int) string {
	var one [1]string
	column.fill(one[:], nil, i)
	return one[0]
}

// null tells whether a cell of text is null. A word of a dictionary that is
// null counts as text without characters.
func (column *arrowColumn) null(i int) bool { return column.cells == cellsNull || !column.known(i) }

// appendRaw writes s as a JSON string and leaves bytes that are not UTF-8 as
// they are: who reads a reject must see what was sent.
func appendRaw(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, c := range []byte(s) {
		switch {
		case c == '"', c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

func appendFloat(b []byte, v float64, bits int) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		b = append(b, '"')
		return append(strconv.AppendFloat(b, v, 'g', -1, bits), '"')
	}
	return strconv.AppendFloat(b, v, 'g', -1, bits)
}

// appendDecimal writes a little-endian number of two's complement with scale
// places behind the point.
func appendDecimal(b, raw []byte, scale int) []byte {
	number := slices.Clone(raw)
	slices.Reverse(number)
	v := new(big.Int).SetBytes(number)
	if number[0]&0x80 != 0 {
		v.Sub(v, new(big.Int).Lsh(big.NewInt(1), uint(8*len(raw))))
	}
	if v.Sign() < 0 {
		b = append(b, '-')
		v.Neg(v)
	}
	digits := v.Append(nil, 10)
	if scale > 0 && scale < 100 {
		for len(digits) <= scale {
			digits = slices.Insert(digits, 0, '0')
		}
		b = append(b, digits[:len(digits)-scale]...)
		b = append(b, '.')
		return append(b, digits[len(digits)-scale:]...)
	}
	b = append(b, digits...)
	if scale != 0 {
		b = append(b, 'e')
		b = strconv.AppendInt(b, -int64(scale), 10)
	}
	return b
}
