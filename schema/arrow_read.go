package schema

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// This file reads the framing of an Arrow IPC stream: messages, the schema, and
// which bytes are whose column. It is ours and not the Arrow library's because
// what comes from outside can end the process there in ways nobody recovers
// from: a field that is its own child, a vector said to have four billion
// elements, a Zstandard window of gigabytes. Here columns also stay where they
// are in the message, and those nobody asks for are not even unpacked.

// What one message may cost. A message of NATS holds 64 MiB at most, and scans
// shrink to a fifth or so.
const (
	maxArrowRows   = 1 << 20
	maxArrowMemory = 512 << 20 // unpacked columns and dictionaries
	maxArrowText   = 1 << 30   // text in rows, where a dictionary or a view names one text many times
	maxArrowFields = 1 << 12   // of the schema, with children
	maxArrowDepth  = 64        // of children
)

// arrowFault is why a whole message cannot be taken.
type arrowFault struct{ Refusal }

func (f *arrowFault) Error() string { return f.Refusal.Error() }

func brokenArrow(format string, args ...any) error {
	return &arrowFault{Refusal{Code: RefuseMessage, Reason: fmt.Sprintf(format, args...)}}
}

var errArrowMeta = brokenArrow("the metadata of the Arrow stream is broken")

// flat reads a flatbuffer and believes nothing it says: what lies outside reads
// as zero and sets bad. Positions only grow on the way down, so nothing can lead
// back to itself; no table stands at position 0, which means absent.
type flat struct {
	buf []byte
	bad bool
}

func (f *flat) bytes(at, n int) []byte {
	if at < 0 || n < 0 || at > len(f.buf)-n {
		f.bad = true
		return make([]byte, min(max(n, 0), 8))
	}
	return f.buf[at : at+n]
}

func (f *flat) u8(at int) uint8   { return f.bytes(at, 1)[0] }
func (f *flat) u16(at int) uint16 { return binary.LittleEndian.Uint16(f.bytes(at, 2)) }
func (f *flat) u32(at int) uint32 { return binary.LittleEndian.Uint32(f.bytes(at, 4)) }
func (f *flat) i64(at int) int64  { return int64(binary.LittleEndian.Uint64(f.bytes(at, 8))) }

// field is where the value of a field of a table stands, 0 when it is absent.
func (f *flat) field(table, slot int) int {
	if table == 0 {
		return 0
	}
	vtable := table - int(int32(f.u32(table)))
	entry := 4 + 2*slot
	if entry+2 > int(f.u16(vtable)) {
		return 0
	}
	offset := int(f.u16(vtable + entry))
	if offset == 0 {
		return 0
	}
	return table + offset
}

// child is the table, vector or string a field points to.
func (f *flat) child(table, slot int) int {
	at := f.field(table, slot)
	if at == 0 {
		return 0
	}
	return at + int(f.u32(at))
}

// vector is where the elements of a vector begin and how many there are.
func (f *flat) vector(table, slot, size int) (first, n int) {
	at := f.child(table, slot)
	if at == 0 {
		return 0, 0
	}
	n = int(f.u32(at))
	f.bytes(at+4, n*size)
	if f.bad {
		return 0, 0
	}
	return at + 4, n
}

func (f *flat) text(table, slot int) string {
	first, n := f.vector(table, slot, 1)
	if n == 0 {
		return ""
	}
	return string(f.bytes(first, n))
}

// Numbers and flags of a table, with the default of the format.
func (f *flat) number8(table, slot int, absent uint8) uint8 {
	if at := f.field(table, slot); at != 0 {
		return f.u8(at)
	}
	return absent
}

func (f *flat) number16(table, slot int, absent uint16) uint16 {
	if at := f.field(table, slot); at != 0 {
		return f.u16(at)
	}
	return absent
}

func (f *flat) number32(table, slot int, absent int) int {
	if at := f.field(table, slot); at != 0 {
		return int(int32(f.u32(at)))
	}
	return absent
}

func (f *flat) number64(table, slot int) int64 {
	if at := f.field(table, slot); at != 0 {
		return f.i64(at)
	}
	return 0
}

// arrowType is a type as the format numbers them.
type arrowType uint8

const (
	arrowNull           arrowType = 1
	arrowInt            arrowType = 2
	arrowFloat          arrowType = 3
	arrowBinary         arrowType = 4
	arrowUTF8           arrowType = 5
	arrowBool           arrowType = 6
	arrowDecimal        arrowType = 7
	arrowDate           arrowType = 8
	arrowTime           arrowType = 9
	arrowTimestamp      arrowType = 10
	arrowInterval       arrowType = 11
	arrowList           arrowType = 12
	arrowStruct         arrowType = 13
	arrowUnion          arrowType = 14
	arrowFixedBinary    arrowType = 15
	arrowFixedList      arrowType = 16
	arrowMap            arrowType = 17
	arrowDuration       arrowType = 18
	arrowLargeBinary    arrowType = 19
	arrowLargeUTF8      arrowType = 20
	arrowLargeList      arrowType = 21
	arrowRunEnds        arrowType = 22
	arrowBinaryView     arrowType = 23
	arrowUTF8View       arrowType = 24
	arrowListView       arrowType = 25
	arrowLargeListView  arrowType = 26
	arrowTypeEnd        arrowType = 27
	arrowDateDay                  = 0
	arrowUnionDense               = 1
	arrowVersion4                 = 3
	arrowVersion5                 = 4
	arrowHeadSchema               = 1
	arrowHeadDictionary           = 2
	arrowHeadBatch                = 3
)

var arrowTypeNames = [arrowTypeEnd]string{
	"none", "null", "int", "float", "binary", "string", "bool", "decimal", "date", "time", "timestamp", "interval", "list", "struct", "union",
	"fixed_size_binary", "fixed_size_list", "map", "duration", "large_binary", "large_string", "large_list", "run_end_encoded",
	"binary_view", "string_view", "list_view", "large_list_view",
}

// arrowField is a column of the schema, or a child of one.
type arrowField struct {
	name     string
	kind     arrowType
	unit     int  // of times and dates, mode of unions, precision of floats
	width    int  // bits of integers and decimals
	signed   bool // integers
	scale    int  // decimals
	zoned    bool // timestamps
	children []arrowField

	coded bool // by a dictionary: what stands in batches are indices
	dict  int64
	index int // bits of an index
}

func (f *arrowField) String() string {
	name := arrowTypeNames[f.kind]
	if len(f.children) == 1 {
		name += " of " + f.children[0].String()
	}
	if f.coded {
		name = "dictionary of " + name
	}
	return name
}

// arrowStream is the work of reading one stream.
type arrowStream struct {
	fields  []arrowField
	count   int
	version int
	memory  int                   // still allowed
	text    int                   // still allowed
	wanted  map[int64]*arrowField // by number of their dictionary
	dicts   map[int64]*arrowDict
}

// spend takes n from what a message may cost.
func (s *arrowStream) spend(n int) error {
	if n > s.memory {
		return brokenArrow("the Arrow stream unpacks to more than %d MiB", maxArrowMemory>>20)
	}
	s.memory -= n
	return nil
}

// repeat takes n bytes from the text the rows of a message may name.
func (s *arrowStream) repeat(n int) error {
	if n > s.text {
		return brokenArrow("the rows of the Arrow stream hold more than %d MiB of text", maxArrowText>>20)
	}
	s.text -= n
	return nil
}

const arrowMark = 0xFFFFFFFF

// frame cuts the next message off: its metadata and its body. Both are nil at
// the end of the stream.
func frame(payload []byte) (meta, body, rest []byte, err error) {
	if len(payload) == 0 {
		return nil, nil, nil, nil // a stream may end without a mark
	}
	if len(payload) < 8 {
		return nil, nil, nil, brokenArrow("the Arrow stream is cut off")
	}
	if binary.LittleEndian.Uint32(payload) != arrowMark {
		return nil, nil, nil, brokenArrow("the message is not an Arrow IPC stream")
	}
	n := int(int32(binary.LittleEndian.Uint32(payload[4:])))
	payload = payload[8:]
	if n == 0 {
		if len(payload) > 0 {
			return nil, nil, nil, brokenArrow("something follows the Arrow stream")
		}
		return nil, nil, nil, nil
	}
	if n < 0 || n > len(payload) {
		return nil, nil, nil, brokenArrow("the Arrow stream is cut off")
	}
	meta, payload = payload[:n], payload[n:]
	f := &flat{buf: meta}
	size := f.number64(int(f.u32(0)), 3)
	if f.bad {
		return nil, nil, nil, errArrowMeta
	}
	if size < 0 || size > int64(len(payload)) {
		return nil, nil, nil, brokenArrow("the Arrow stream is cut off")
	}
	return meta, payload[:size], payload[size:], nil
}

// read reads the whole stream. batch is called for each record batch.
func (s *arrowStream) read(payload []byte, schema func() error, batch func(*arrowCursor) error) error {
	for first := true; ; first = false {
		meta, body, rest, err := frame(payload)
		if err != nil {
			return err
		}
		if meta == nil {
			if first {
				return brokenArrow("the Arrow stream is empty")
			}
			return nil
		}
		payload = rest
		f := &flat{buf: meta}
		root := int(f.u32(0))
		s.version = int(f.number16(root, 0, 0))
		kind, head := f.number8(root, 1, 0), f.child(root, 2)
		if f.bad || head == 0 {
			return errArrowMeta
		}
		if s.version != arrowVersion4 && s.version != arrowVersion5 {
			return brokenArrow("the Arrow stream is of a version nobody here reads")
		}
		switch {
		case first != (kind == arrowHeadSchema):
			return brokenArrow("an Arrow stream begins with its schema, and has only one")
		case first:
			if err := s.schema(f, head); err != nil {
				return err
			}
			err = schema()
		case kind == arrowHeadDictionary:
			err = s.dictionary(f, head, body)
		case kind == arrowHeadBatch:
			var c *arrowCursor
			if c, err = s.cursor(f, head, body); err == nil {
				err = batch(c)
			}
		default:
			err = brokenArrow("the Arrow stream holds something that is no record batch")
		}
		if err != nil {
			return err
		}
	}
}

// schema reads the columns.
func (s *arrowStream) schema(f *flat, head int) error {
	if f.number16(head, 0, 0) != 0 {
		return brokenArrow("the Arrow stream is big-endian")
	}
	var err error
	if s.fields, err = s.children(f, head, 1, maxArrowDepth); err != nil {
		return err
	}
	if f.bad {
		return errArrowMeta
	}
	s.want()
	return nil
}

func (s *arrowStream) children(f *flat, table, slot, depth int) ([]arrowField, error) {
	first, n := f.vector(table, slot, 4)
	if s.count += n; s.count > maxArrowFields || depth == 0 {
		return nil, brokenArrow("the schema of the Arrow stream has too many columns")
	}
	fields := make([]arrowField, n)
	for i := range fields {
		at := first + 4*i
		if err := s.field(f, at+int(f.u32(at)), &fields[i], depth-1); err != nil {
			return nil, err
		}
	}
	return fields, nil
}

func (s *arrowStream) field(f *flat, table int, to *arrowField, depth int) error {
	to.name = f.text(table, 0)
	to.kind = arrowType(f.number8(table, 2, 0))
	kind := f.child(table, 3)
	if f.bad || to.kind == 0 || to.kind >= arrowTypeEnd {
		return errArrowMeta
	}
	switch to.kind {
	case arrowInt:
		to.width, to.signed = f.number32(kind, 0, 0), f.number8(kind, 1, 0) != 0
	case arrowFloat:
		to.unit = int(f.number16(kind, 0, 0))
	case arrowDecimal:
		to.scale, to.width = f.number32(kind, 1, 0), f.number32(kind, 2, 128)
	case arrowDate:
		to.unit = int(f.number16(kind, 0, 1))
	case arrowTimestamp:
		to.unit, to.zoned = int(f.number16(kind, 0, 0)), f.text(kind, 1) != ""
	case arrowUnion:
		to.unit = int(f.number16(kind, 0, 0))
	}
	if d := f.child(table, 4); d != 0 {
		const usual = 32
		to.coded, to.dict, to.index = true, f.number64(d, 0), usual
		if index := f.child(d, 1); index != 0 {
			to.index = f.number32(index, 0, 0)
		}
		if to.index != 8 && to.index != 16 && to.index != 32 && to.index != 64 {
			return errArrowMeta
		}
	}
	var err error
	to.children, err = s.children(f, table, 5, depth)
	return err
}

// arrowCursor walks over the columns of one batch.
type arrowCursor struct {
	stream  *arrowStream
	meta    *flat
	body    []byte
	rows    int
	packed  bool
	codec   uint8
	nodes   [2]int // where the next one is, and how many are left
	buffers [2]int
	views   [2]int
}

func (s *arrowStream) cursor(f *flat, head int, body []byte) (*arrowCursor, error) {
	c := &arrowCursor{stream: s, meta: f, body: body}
	rows := f.number64(head, 0)
	c.nodes[0], c.nodes[1] = f.vector(head, 1, 16)
	c.buffers[0], c.buffers[1] = f.vector(head, 2, 16)
	c.views[0], c.views[1] = f.vector(head, 4, 8)
	if packed := f.child(head, 3); packed != 0 {
		c.packed, c.codec = true, f.number8(packed, 0, 0)
		if c.codec > 1 || f.number8(packed, 1, 0) != 0 {
			return nil, brokenArrow("the Arrow stream is compressed in a way nobody here reads")
		}
	}
	if f.bad || rows < 0 {
		return nil, errArrowMeta
	}
	if rows > maxArrowRows {
		return nil, tooManyRows()
	}
	c.rows = int(rows)
	return c, nil
}

func tooManyRows() error {
	return brokenArrow("the Arrow stream has more than %d rows", maxArrowRows)
}

func (c *arrowCursor) take(of *[2]int, size int) (at int, err error) {
	if of[1] == 0 {
		return 0, errArrowMeta
	}
	at = of[0]
	of[0] += size
	of[1]--
	return at, nil
}

// node is the length of the next array and how many of it are null.
func (c *arrowCursor) node() (rows, nulls int, err error) {
	at, err := c.take(&c.nodes, 16)
	if err != nil {
		return 0, 0, err
	}
	n, missing := c.meta.i64(at), c.meta.i64(at+8)
	if n < 0 || n > math.MaxInt32 || missing < 0 || missing > n {
		return 0, 0, errArrowMeta
	}
	return int(n), int(missing), nil
}

// skip passes over n buffers.
func (c *arrowCursor) skip(n int) error {
	if n > c.buffers[1] {
		return errArrowMeta
	}
	c.buffers[0] += 16 * n
	c.buffers[1] -= n
	return nil
}

// buffer is the next buffer, unpacked, which must have at least need bytes.
func (c *arrowCursor) buffer(need int) ([]byte, error) {
	at, err := c.take(&c.buffers, 16)
	if err != nil {
		return nil, err
	}
	from, n := c.meta.i64(at), c.meta.i64(at+8)
	if from < 0 || n < 0 || n > int64(len(c.body)) || from > int64(len(c.body))-n {
		return nil, brokenArrow("a column of the Arrow stream lies outside its message")
	}
	raw := c.body[from : from+n : from+n]
	if c.packed && n > 0 {
		if raw, err = c.unpack(raw); err != nil {
			return nil, err
		}
	}
	if len(raw) < need {
		return nil, brokenArrow("a column of the Arrow stream is shorter than its rows")
	}
	return raw, nil
}

// unpack unpacks a compressed buffer, which begins with its length.
func (c *arrowCursor) unpack(raw []byte) ([]byte, error) {
	if len(raw) < 8 {
		return nil, errArrowMeta
	}
	n := int64(binary.LittleEndian.Uint64(raw))
	raw = raw[8:]
	const plain = -1
	if n == plain {
		return raw, nil
	}
	if n < 0 {
		return nil, errArrowMeta
	}
	// The room is made before the first byte is unpacked, so a lie must be told by
	// as many bytes as it could be true of.
	const lz4Frame = 0
	open, most := unzstd, (len(raw)/4+1)<<17 // a block of 128 KiB takes 4 bytes
	if c.codec == lz4Frame {
		open, most = unlz4, len(raw)<<8
	}
	if n > int64(most) {
		return nil, errUnpack
	}
	if err := c.stream.spend(int(n)); err != nil {
		return nil, err
	}
	out, err := open(raw, int(n))
	if err != nil {
		return nil, errUnpack
	}
	return out, nil
}

var errUnpack = brokenArrow("a compressed column of the Arrow stream does not unpack")

var errUnpacked = errors.New("not the length that was said")

// zstdDecoder unpacks for everybody; it keeps nothing from one call to the next.
var zstdDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxMemory(maxArrowMemory))
})

func unzstd(raw []byte, n int) ([]byte, error) {
	decoder, err := zstdDecoder()
	if err != nil {
		return nil, err
	}
	out, err := decoder.DecodeAll(raw, make([]byte, 0, n))
	if err == nil && len(out) != n {
		err = errUnpacked
	}
	return out, err
}

var lz4Readers = sync.Pool{New: func() any { return lz4.NewReader(nil) }}

func unlz4(raw []byte, n int) ([]byte, error) {
	r := lz4Readers.Get().(*lz4.Reader)
	r.Reset(bytes.NewReader(raw))
	out := make([]byte, n)
	if _, err := io.ReadFull(r, out); err != nil {
		return nil, err
	}
	var more [1]byte
	if extra, err := r.Read(more[:]); extra != 0 || !errors.Is(err, io.EOF) {
		return nil, errUnpacked
	}
	r.Reset(nil)
	lz4Readers.Put(r)
	return out, nil
}

// validity is the bitmap of what is not null, nil when nothing is.
func (c *arrowCursor) validity(rows, nulls int) ([]byte, error) {
	if nulls == 0 {
		return nil, c.skip(1)
	}
	return c.buffer((rows + 7) / 8)
}

// pass walks over a column nobody asks for. What is not null of it is counted,
// so it returns that.
func (c *arrowCursor) pass(f *arrowField) (valid []byte, all bool, rows int, err error) {
	rows, nulls, err := c.node()
	if err != nil {
		return nil, false, 0, err
	}
	if f.coded {
		if valid, err = c.validity(rows, nulls); err == nil {
			err = c.skip(1)
		}
		return valid, true, rows, err
	}
	bitmap, more := true, 0
	switch f.kind {
	case arrowNull:
		return nil, false, rows, nil
	case arrowInt, arrowFloat, arrowBool, arrowDecimal, arrowDate, arrowTime, arrowTimestamp, arrowInterval, arrowDuration, arrowFixedBinary,
		arrowList, arrowLargeList, arrowMap:
		more = 1
	case arrowBinary, arrowUTF8, arrowLargeBinary, arrowLargeUTF8, arrowListView, arrowLargeListView:
		more = 2
	case arrowBinaryView, arrowUTF8View:
		var n int
		if n, err = c.variadic(); err != nil {
			return nil, false, 0, err
		}
		more = 1 + n
	case arrowUnion:
		bitmap, more = c.stream.version == arrowVersion4, 1
		if f.unit == arrowUnionDense {
			more = 2
		}
	case arrowRunEnds:
		bitmap = false
	}
	if bitmap {
		if valid, err = c.validity(rows, nulls); err != nil {
			return nil, false, 0, err
		}
	}
	if err := c.skip(more); err != nil {
		return nil, false, 0, err
	}
	for i := range f.children {
		if _, _, _, err := c.pass(&f.children[i]); err != nil {
			return nil, false, 0, err
		}
	}
	return valid, true, rows, nil
}

// variadic is how many buffers of text the next column of views has.
func (c *arrowCursor) variadic() (int, error) {
	at, err := c.take(&c.views, 8)
	if err != nil {
		return 0, err
	}
	n := c.meta.i64(at)
	if n < 0 || n > int64(c.buffers[1]) {
		return 0, errArrowMeta
	}
	return int(n), nil
}
