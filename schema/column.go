package schema

import (
	"encoding/binary"
	"strings"

	"github.com/ClickHouse/ch-go/proto"
)

// The columns of a block are kept in ClickHouse's Native form, which the engine
// takes without working anything out. Adding a value allocates nothing once the
// memory of a block has grown.

// texts is a column String as it goes over the wire: of each value its length
// and its bytes.
type texts struct {
	wire []byte
	rows int
}

func (c *texts) add(v string) {
	c.wire = binary.AppendUvarint(c.wire, uint64(len(v)))
	c.wire = append(c.wire, v...)
	c.rows++
}

func (c *texts) repeat(v string, n int) {
	for range n {
		c.add(v)
	}
}

func (c *texts) Type() proto.ColumnType       { return "String" }
func (c *texts) Rows() int                    { return c.rows }
func (c *texts) Reset()                       { c.wire, c.rows = c.wire[:0], 0 }
func (c *texts) EncodeColumn(b *proto.Buffer) { b.PutRaw(c.wire) }
func (c *texts) WriteColumn(w *proto.Writer)  { w.ChainWrite(c.wire) }

// ids is a column of event ids. A UUID in its usual form takes 17 bytes: a zero
// byte, with which no id begins, and its 16 bytes. The view scans gives the text.
type ids struct{ texts }

func (c *ids) add(v string) {
	uuid, is := uuidOf(v)
	if !is {
		c.texts.add(v)
		return
	}
	c.wire = append(c.wire, byte(1+len(uuid)), 0)
	c.wire = append(c.wire, uuid[:]...)
	c.rows++
}

func (c *ids) repeat(v string, n int) {
	for range n {
		c.add(v)
	}
}

// uuidOf reads a UUID as it is usually written: lower-case digits in groups of
// 8, 4, 4, 4 and 12. What is written otherwise stays text, as it must read back as
// it was.
func uuidOf(v string) (uuid [16]byte, is bool) {
	if len(v) != 36 {
		return uuid, false
	}
	nibbles := 0
	for i := range len(v) {
		c := v[i]
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return uuid, false
			}
			continue
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		default:
			return uuid, false
		}
		uuid[nibbles/2] = uuid[nibbles/2]<<4 | c
		nibbles++
	}
	return uuid, true
}

// words is a column LowCardinality(String): a dictionary, and for each row the
// number of its word.
type words struct {
	numbers map[string]uint32
	list    []string // by number
	keys    []uint32
	near    [nearWords]uint32 // numbers of words looked up before, by slot; quicker than the map
	dict    texts             // list, as it goes over the wire
	narrow  []byte            // keys, as they go over the wire
}

const nearWords = 256

// slot is where the number of a word may be found again.
func slot(v string) int {
	n := len(v)
	if n < 4 {
		return n
	}
	h := uint32(n) + uint32(v[n-1])*31 + uint32(v[n-2])*67 + uint32(v[n-4])*137 + uint32(v[n/2])*17
	return int(h % nearWords)
}

// number is the number of v in the dictionary, which gets it if need be.
func (c *words) number(v string) uint32 {
	at := slot(v)
	if n := c.near[at]; int(n) < len(c.list) && c.list[n] == v {
		return n
	}
	n, known := c.numbers[v]
	if !known {
		if c.numbers == nil {
			c.numbers = map[string]uint32{}
		}
		v = strings.Clone(v) // the caller's is part of a message
		n = uint32(len(c.list))
		c.numbers[v] = n
		c.list = append(c.list, v)
		c.dict.add(v)
	}
	c.near[at] = n
	return n
}

func (c *words) add(v string) { c.keys = append(c.keys, c.number(v)) }

// repeat adds the word of a number n times.
func (c *words) repeat(number uint32, n int) {
	for range n {
		c.keys = append(c.keys, number)
	}
}

func (c *words) Type() proto.ColumnType { return "LowCardinality(String)" }
func (c *words) Rows() int              { return len(c.keys) }

func (c *words) Reset() {
	clear(c.numbers)
	clear(c.list)
	c.list, c.keys = c.list[:0], c.keys[:0]
	c.dict.Reset()
}

// The form of a LowCardinality column: a version, then what follows, the width
// of the keys among it.
const (
	wordsVersion = 1
	wordsFlags   = 1<<9 | 1<<10 // a dictionary follows, and it is all there is
)

func (c *words) EncodeState(b *proto.Buffer) { b.PutUInt64(wordsVersion) }

// keysOf narrows the keys to as many bytes as the dictionary needs. code is how
// the width is told to the engine.
func (c *words) keysOf() (wire []byte, code uint64) {
	c.narrow = c.narrow[:0]
	switch {
	case len(c.list) <= 1<<8:
		for _, k := range c.keys {
			c.narrow = append(c.narrow, byte(k))
		}
		return c.narrow, 0
	case len(c.list) <= 1<<16:
		for _, k := range c.keys {
			c.narrow = binary.LittleEndian.AppendUint16(c.narrow, uint16(k))
		}
		return c.narrow, 1
	}
	for _, k := range c.keys {
		c.narrow = binary.LittleEndian.AppendUint32(c.narrow, k)
	}
	return c.narrow, 2
}

func (c *words) head(b *proto.Buffer, code uint64) {
	b.PutUInt64(wordsFlags | code)
	b.PutUInt64(uint64(len(c.list)))
}

func (c *words) EncodeColumn(b *proto.Buffer) {
	if len(c.keys) == 0 {
		return
	}
	wire, code := c.keysOf()
	c.head(b, code)
	c.dict.EncodeColumn(b)
	b.PutUInt64(uint64(len(c.keys)))
	b.PutRaw(wire)
}

func (c *words) WriteColumn(w *proto.Writer) {
	if len(c.keys) == 0 {
		return
	}
	wire, code := c.keysOf()
	w.ChainBuffer(func(b *proto.Buffer) { c.head(b, code) })
	c.dict.WriteColumn(w)
	w.ChainBuffer(func(b *proto.Buffer) { b.PutUInt64(uint64(len(c.keys))) })
	w.ChainWrite(wire)
}

// lists is a column Array(LowCardinality(String)).
type lists struct {
	ends  proto.ColUInt64 // of each row, in words
	words words
}

// push adds a word to the row that end ends.
func (c *lists) push(v string) { c.words.add(v) }

func (c *lists) end() { c.ends = append(c.ends, uint64(len(c.words.keys))) }

func (c *lists) Type() proto.ColumnType       { return "Array(LowCardinality(String))" }
func (c *lists) Rows() int                    { return len(c.ends) }
func (c *lists) Reset()                       { c.ends = c.ends[:0]; c.words.Reset() }
func (c *lists) EncodeState(b *proto.Buffer)  { c.words.EncodeState(b) }
func (c *lists) EncodeColumn(b *proto.Buffer) { c.ends.EncodeColumn(b); c.words.EncodeColumn(b) }
func (c *lists) WriteColumn(w *proto.Writer)  { c.ends.WriteColumn(w); c.words.WriteColumn(w) }

// numbers is a column Nullable(Decimal(18, 6)) of millionths.
type numbers struct {
	unknown proto.ColUInt8
	micro   proto.ColInt64
}

func (c *numbers) add(n Number) {
	var unknown uint8
	if !n.Known {
		unknown, n.Micro = 1, 0
	}
	c.unknown = append(c.unknown, unknown)
	c.micro = append(c.micro, n.Micro)
}

func (c *numbers) repeat(v Number, n int) {
	for range n {
		c.add(v)
	}
}

func (c *numbers) Type() proto.ColumnType       { return "Nullable(Decimal(18, 6))" }
func (c *numbers) Rows() int                    { return len(c.micro) }
func (c *numbers) Reset()                       { c.unknown, c.micro = c.unknown[:0], c.micro[:0] }
func (c *numbers) EncodeColumn(b *proto.Buffer) { c.unknown.EncodeColumn(b); c.micro.EncodeColumn(b) }
func (c *numbers) WriteColumn(w *proto.Writer)  { c.unknown.WriteColumn(w); c.micro.WriteColumn(w) }

// dates is a column Nullable(Date32) of days since 1970.
type dates struct {
	unknown proto.ColUInt8
	days    proto.ColInt32
}

func (c *dates) add(day int32, known bool) {
	var unknown uint8
	if !known {
		unknown, day = 1, 0
	}
	c.unknown = append(c.unknown, unknown)
	c.days = append(c.days, day)
}

func (c *dates) repeat(day int32, known bool, n int) {
	for range n {
		c.add(day, known)
	}
}

func (c *dates) Type() proto.ColumnType       { return "Nullable(Date32)" }
func (c *dates) Rows() int                    { return len(c.days) }
func (c *dates) Reset()                       { c.unknown, c.days = c.unknown[:0], c.days[:0] }
func (c *dates) EncodeColumn(b *proto.Buffer) { c.unknown.EncodeColumn(b); c.days.EncodeColumn(b) }
func (c *dates) WriteColumn(w *proto.Writer)  { c.unknown.WriteColumn(w); c.days.WriteColumn(w) }

// typed is a column of plain numbers that is of another type in the table.
type typed struct {
	proto.ColInput
	name proto.ColumnType
}

func (c typed) Type() proto.ColumnType { return c.name }

// repeat appends v to a column n times.
func repeat[T any, C ~[]T](to C, v T, n int) C {
	for range n {
		to = append(to, v)
	}
	return to
}
