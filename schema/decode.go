package schema

import (
	"encoding/binary"
	"iter"
	"math/bits"
	"slices"
	"unicode/utf8"

	"github.com/go-faster/jx"
)

// A Decoder reads events one after the other, each into the same Scan, and
// allocates nothing for an event it accepts. The zero value is ready. It is
// not for several goroutines at once.
//
// The Scan it hands out, and all strings and slices in it, are good until the
// Decoder is used again, and only as long as nobody changes the bytes that were
// read: most strings are parts of them. Who keeps a Scan, or one string of it,
// clones it.
type Decoder struct {
	scan  Scan
	codes []string // room for scan.Codes
	kinds []Kind   // room for scan.VoidKinds
	text  []byte   // the strings of this event that could not stay where they were
	// next says which field followed each one when it was last read: software
	// writes its fields in one order, so it is usually the next name.
	next    [memberCount + 1]member
	present uint64 // bit f: field f has a value that is not empty; strings only

	// Of careful.
	json    jx.Decoder
	seen    uint64 // bit f: field f was named
	reading member // the one being read, fUnknown before the first
	first   *Refusal
}

// An Event is one event of a message.
type Event struct {
	Raw  []byte // its bytes, a part of the message
	Scan *Scan  // what they say; the Decoder's, see there
}

// Decode reads one event of version 1 and returns it or the first thing that
// breaks the contract, exactly as Scan.DecodeJSON does. The Scan is never nil:
// after a Refusal its Org, Region and EventID hold what could be read. See
// Decoder for how long it is good.
func (d *Decoder) Decode(data []byte) (*Scan, *Refusal) {
	end, ok := d.plain(data, skipBlank(data, 0))
	if ok && skipBlank(data, end) == len(data) {
		return &d.scan, nil
	}
	return &d.scan, d.careful(data)
}

// Events reads all events of one message: the function Events and Decode in
// one go, which is faster than one after the other. An event that is no event
// at all, such as a cut off end, comes with an empty Scan.
func (d *Decoder) Events(payload []byte, contentType string) iter.Seq2[Event, *Refusal] {
	// No more than this, so that it is inlined and the loop costs no allocation.
	return func(yield func(Event, *Refusal) bool) { d.message(payload, contentType, yield) }
}

func (d *Decoder) message(payload []byte, contentType string, yield func(Event, *Refusal) bool) {
	split(payload, contentType, d, func(raw []byte, why *Refusal, read bool) bool {
		switch {
		case why != nil:
			d.begin()
		case !read:
			_, why = d.Decode(raw)
		}
		return yield(Event{Raw: raw, Scan: &d.scan}, why)
	})
}

// Clone returns a copy of s that shares nothing with it. Its strings share one
// allocation.
func (s *Scan) Clone() Scan {
	var c Scan
	s.cloneTo(&c)
	return c
}

func (s *Scan) cloneTo(c *Scan) {
	*c = *s
	size := 0
	for f := range memberCount {
		if v := s.text(f); v != nil {
			size += len(*v)
		}
	}
	for _, code := range s.Codes {
		size += len(code)
	}
	room := make([]byte, 0, size)
	for f := range memberCount {
		if v := c.text(f); v != nil && *v != "" {
			from := len(room)
			room = append(room, *v...)
			*v = alias(room[from:])
		}
	}
	if s.Codes != nil {
		c.Codes = make([]string, len(s.Codes))
		for i, code := range s.Codes {
			from := len(room)
			room = append(room, code...)
			c.Codes[i] = alias(room[from:])
		}
	}
	c.VoidKinds = slices.Clone(s.VoidKinds)
}

// begin forgets the last event.
func (d *Decoder) begin() {
	// A code that stayed in the room would keep its whole message alive.
	clear(d.codes)
	d.codes, d.kinds, d.text = d.codes[:0], d.kinds[:0], d.text[:0]
	d.scan = Scan{}
	d.present, d.seen = 0, 0
	d.reading, d.first = fUnknown, nil
}

func (d *Decoder) addCode(v []byte) {
	d.codes = append(d.codes, alias(v))
	d.scan.Codes = d.codes
}

// plain reads the event that begins at data[at], and tells where it ends. It
// knows the JSON that events are nearly always made of, and is true only for
// an event that the contract accepts, read as careful reads it; all else it
// leaves to careful, which is several times as slow. What follows the event is
// not looked at.
func (d *Decoder) plain(data []byte, at int) (end int, ok bool) {
	if peek(data, at) != '{' {
		return 0, false
	}
	d.begin()
	seen := uint64(0)
	last := fUnknown
	for i := skipBlank(data, at+1); ; i = skipBlank(data, i+1) {
		f := d.next[last]
		if n := &names[f]; n.begins(data, i) {
			i += n.length
		} else {
			name, end := d.str(data, i)
			if end == 0 {
				return 0, false
			}
			if i = skipBlank(data, end); peek(data, i) != ':' {
				return 0, false
			}
			i++
			f = memberOf(name)
			d.next[last] = f % memberCount // a name that is not known cannot be foretold
		}
		last = f
		i = skipBlank(data, i)
		if f < fUnknown {
			if seen&(1<<f) != 0 {
				return 0, false
			}
			seen |= 1 << f
		}
		if i = d.plainValue(data, i, f); i == 0 {
			return 0, false
		}
		i = skipBlank(data, i)
		switch peek(data, i) {
		case ',':
		case '}':
			d.whole()
			return i + 1, d.first == nil
		default:
			return 0, false
		}
	}
}

// plainValue reads the value of f that begins at data[i] and returns where it
// ends, 0 when it is not plain.
func (d *Decoder) plainValue(data []byte, i int, f member) (end int) {
	if peek(data, i) == 'n' {
		if f == fUnknown {
			d.scan.Unknown++
		}
		return literal(data, i, "null")
	}
	if f == fUnknown {
		d.scan.Unknown++
		switch peek(data, i) {
		case '"':
			_, end = d.str(data, i)
		case 't':
			end = literal(data, i, "true")
		case 'f':
			end = literal(data, i, "false")
		default:
			_, end = plainNumber(data, i)
		}
		return end
	}
	switch form := members[f].form; form {
	case formText:
		// Most fields: not by way of take. A text that is longer in bytes may be
		// short in characters.
		v, end := d.str(data, i)
		if max := members[f].max; len(v) > max && utf8.RuneCount(v) > max {
			return 0
		}
		if len(v) > 0 {
			*d.scan.text(f) = alias(v)
		}
		return end
	case formBool:
		if end = literal(data, i, "true"); end > 0 {
			d.scan.Split = true
			return end
		}
		return literal(data, i, "false")
	case formAbove0, formFrom0:
		n, end := plainNumber(data, i)
		if n == 0 && form == formAbove0 {
			return 0
		}
		*d.scan.number(f) = Number{Micro: n, Known: true}
		return end
	case formCodes:
		return d.plainCodes(data, i)
	case formKinds:
		return 0
	}
	v, end := d.str(data, i)
	if code, _ := d.take(f, v); code != "" {
		return 0
	}
	return end
}

func (d *Decoder) plainCodes(data []byte, i int) (end int) {
	if peek(data, i) != '[' {
		return 0
	}
	if i = skipBlank(data, i+1); peek(data, i) == ']' {
		return i + 1
	}
	for {
		v, n := d.str(data, i)
		if n == 0 || len(d.codes) == MaxCodes {
			return 0
		}
		d.addCode(v)
		i = skipBlank(data, n)
		switch peek(data, i) {
		case ',':
			i = skipBlank(data, i+1)
		case ']':
			return i + 1
		default:
			return 0
		}
	}
}

// str reads the string that begins at data[i] and returns what it says and
// where it ends, 0 when it is not plain. What it says is a part of data, or of
// d.text where there are escapes.
func (d *Decoder) str(data []byte, i int) (v []byte, end int) {
	if peek(data, i) != '"' {
		return nil, 0
	}
	i++
	from := i
	for i+8 <= len(data) {
		found := odd(binary.LittleEndian.Uint64(data[i:]))
		if found == 0 {
			i += 8
			continue
		}
		i += bits.TrailingZeros64(found) / 8
		if data[i] == '"' {
			return data[from:i:i], i + 1
		}
		break
	}
	return d.oddStr(data, from, i)
}

// odd sets the highest bit of the lowest of eight bytes that is no plain
// character of a string: a quote, a backslash, a control character, or no
// ASCII. Bits above that one mean nothing.
func odd(x uint64) uint64 {
	// A subtraction borrows from the byte above only where it has found something.
	const ones = 0x0101010101010101
	// Turning bit 1 moves the quote (0x22) right behind the control characters and
	// the blank (0x20) out of their way: one comparison finds both.
	low := (x ^ 0x02*ones) - 0x21*ones
	slash := (x ^ '\\'*ones) - ones
	// What is no ASCII keeps its highest bit in at least one of them.
	return (low | slash) & (0x80 * ones)
}

// oddStr is the rest of str, from data[i] on: for what is not ASCII, for
// escapes, and for the last bytes of data.
func (d *Decoder) oddStr(data []byte, from, i int) (v []byte, end int) {
	text := len(d.text)
	copied := from // data[from:copied] stands in d.text, its escapes undone
	wide := false
	for i < len(data) {
		c := data[i]
		switch {
		case c == '"':
			if wide && !utf8.Valid(data[from:i]) {
				return nil, 0
			}
			if copied == from {
				return data[from:i:i], i + 1
			}
			d.text = append(d.text, data[copied:i]...)
			return d.text[text:len(d.text):len(d.text)], i + 1
		case c == '\\':
			d.text = append(d.text, data[copied:i]...)
			n := d.unescape(data, i+1)
			if n == 0 {
				return nil, 0
			}
			i, copied = n, n
		case c < ' ':
			return nil, 0
		default:
			wide = wide || c >= utf8.RuneSelf
			i++
		}
	}
	return nil, 0
}

// unescape appends to d.text what the escape says whose backslash stands before
// data[i], and returns where it ends, 0 when it is not plain.
func (d *Decoder) unescape(data []byte, i int) (end int) {
	c := peek(data, i)
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		r := rune(0)
		for k := 1; k <= 4; k++ {
			digit := hexDigit(peek(data, i+k))
			if digit < 0 {
				return 0
			}
			r = r<<4 | rune(digit)
		}
		if r >= 0xD800 && r <= 0xDFFF {
			return 0 // half a character
		}
		d.text = utf8.AppendRune(d.text, r)
		return i + 5
	default:
		return 0
	}
	d.text = append(d.text, c)
	return i + 1
}

// plainNumber reads the number that begins at data[i] as parseNumber does, and
// returns where it ends, 0 when it has a sign or too many digits. An exponent is
// left standing.
func plainNumber(data []byte, i int) (micro int64, end int) {
	from := i
	for ; peek(data, i)-'0' <= 9; i++ {
		micro = micro*10 + int64(data[i]-'0')
		if i-from == 12 {
			return 0, 0
		}
	}
	if i == from || data[from] == '0' && i-from > 1 {
		return 0, 0
	}
	micro *= 1e6
	if peek(data, i) == '.' {
		i++
		point := i
		for place := int64(1e5); peek(data, i)-'0' <= 9; i++ {
			digit := int64(data[i] - '0')
			micro += digit * place
			if place == 0 && i == point+6 && digit >= 5 {
				micro++ // rounding, by the seventh place alone
			}
			place /= 10
		}
		if i == point || micro >= maxMicro {
			return 0, 0
		}
	}
	return micro, i
}

// literal returns where word ends that begins at data[i], 0 when it does not.
func literal(data []byte, i int, word string) (end int) {
	if n := i + len(word); n <= len(data) && string(data[i:n]) == word {
		return n
	}
	return 0
}

// peek returns data[i], or 0 behind the end: that byte may stand nowhere in JSON.
func peek(data []byte, i int) byte {
	if i < len(data) {
		return data[i]
	}
	return 0
}

// names has the names of the fields as they usually stand in an event.
var names = func() (out [memberCount]name) {
	for f := range out {
		out[f] = nameOf(`"` + members[f].name + `":`)
	}
	return out
}()

// A name is up to 16 bytes, made to be compared as two words.
type name struct {
	low, high         uint64
	lowMask, highMask uint64
	length            int
}

func nameOf(text string) name {
	var bytes, mask [16]byte
	for i := range copy(bytes[:], text) {
		mask[i] = 0xFF
	}
	word := binary.LittleEndian.Uint64
	return name{
		low:      word(bytes[:8]),
		high:     word(bytes[8:]),
		lowMask:  word(mask[:8]),
		highMask: word(mask[8:]),
		length:   len(text),
	}
}

// begins tells whether n stands at data[i]. Close to the end of data it is
// always false.
func (n *name) begins(data []byte, i int) bool {
	if i+16 > len(data) {
		return false
	}
	low, high := binary.LittleEndian.Uint64(data[i:]), binary.LittleEndian.Uint64(data[i+8:])
	return (low^n.low)&n.lowMask|(high^n.high)&n.highMask == 0
}
