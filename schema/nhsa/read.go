package nhsa

import (
	"bytes"
	"cmp"
	"unicode/utf8"

	"github.com/go-faster/jx"
	"golang.org/x/text/encoding/simplifiedchinese"

	"yaosu/schema"
)

// MaxBytes is the longest message that is looked at, and MaxRows the most rows
// it may have. A row is at least two bytes and becomes some hundreds, so without
// a limit a small message could fill the memory.
const (
	MaxBytes = 16 << 20
	MaxRows  = 10_000
)

// maxNesting is how deep rows may lie in nodes, and how often JSON may be
// wrapped in a string. The interface has two levels and no wrapping.
const maxNesting = 4

var byteOrderMark = []byte("\xEF\xBB\xBF")

// readText returns body as one valid JSON value in UTF-8. What programs do to
// JSON by joining strings is mended: control characters inside strings (a raw
// line break between codes, the <GS> of a scanner) are escaped. Bytes that are
// not UTF-8 are taken for GB 18030, which contains GBK.
func readText(body []byte) ([]byte, *schema.Refusal) {
	if len(body) > MaxBytes {
		return nil, refuse(schema.RefuseMessage, fNone, "报文超过 16 MiB，请分批上传")
	}
	text := bytes.TrimSpace(bytes.TrimPrefix(body, byteOrderMark))
	if !utf8.Valid(text) {
		decoded, err := simplifiedchinese.GB18030.NewDecoder().Bytes(text)
		if err != nil || bytes.ContainsRune(decoded, utf8.RuneError) {
			return nil, refuse(schema.RefuseEncoding, fNone, "报文既不是 UTF-8 也不是 GBK 编码，请用 UTF-8 上传")
		}
		text = decoded
	}
	if len(text) == 0 {
		return nil, refuse(schema.RefuseMessage, fNone, "报文是空的")
	}
	text = escapeControls(text)
	if !jx.Valid(text) {
		return nil, refuse(schema.RefuseJSON, fNone, "报文不是完整的 JSON，请检查括号、引号、逗号以及是否被截断")
	}
	return text, nil
}

// escapeControls returns text with the control characters in its strings
// escaped; text itself when there are none.
func escapeControls(text []byte) []byte {
	var out []byte
	done, inside := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			inside = !inside
		case c == '\\' && inside:
			i++
		case c < ' ' && inside:
			const hex = "0123456789abcdef"
			out = append(append(out, text[done:i]...), '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			done = i + 1
		}
	}
	if out == nil {
		return text
	}
	return append(out, text[done:]...)
}

// each calls yield for the members of object, and does nothing for another
// value. object is valid JSON.
func each(object []byte, yield func(name, value []byte)) {
	var d jx.Decoder
	d.ResetBytes(object)
	if d.Next() != jx.Object {
		return
	}
	it, err := d.ObjIter()
	for err == nil && it.Next() {
		name := it.Key()
		var value []byte
		if value, err = d.Raw(); err == nil {
			yield(name, bytes.TrimSpace(value))
		}
	}
}

// elements calls yield for the elements of an array until it says stop; another
// value is an array of itself.
func elements(array []byte, yield func(value []byte) bool) {
	var d jx.Decoder
	d.ResetBytes(array)
	if d.Next() != jx.Array {
		yield(array)
		return
	}
	it, err := d.ArrIter()
	for err == nil && it.Next() {
		var value []byte
		if value, err = d.Raw(); err == nil && !yield(bytes.TrimSpace(value)) {
			return
		}
	}
}

// unwrap returns the JSON that a string holds, as some programs put it, or
// value itself.
func unwrap(value []byte) []byte {
	for range maxNesting {
		if len(value) == 0 || value[0] != '"' {
			return value
		}
		s, ok := text(value)
		if !ok || s == "" || s[0] != '{' && s[0] != '[' && s[0] != '"' {
			return value
		}
		inner := escapeControls([]byte(s))
		if !jx.Valid(inner) {
			return value
		}
		value = bytes.TrimSpace(inner)
	}
	return value
}

// text returns what a scalar says, blanks trimmed: a string, the digits of a
// number, true or false. An absent value is the empty text. It is false for an
// array and an object.
func text(value []byte) (s string, ok bool) {
	if len(value) == 0 {
		return "", true
	}
	switch value[0] {
	case '{', '[':
		return "", false
	case 'n':
		return "", true
	case '"':
		if bytes.IndexByte(value, '\\') < 0 {
			return trim(string(value[1 : len(value)-1])), true
		}
		var d jx.Decoder
		d.ResetBytes(value)
		s, err := d.Str()
		if err != nil {
			return "", false
		}
		return trim(s), true
	}
	return string(value), true
}

// saysNothing tells whether a value is blank, or, with null, the word null: a
// null that became a word.
func saysNothing(value []byte, null bool) bool {
	if value[0] != '"' {
		return value[0] == 'n'
	}
	inner := bytes.TrimSpace(value[1 : len(value)-1])
	if len(inner) > 0 && (inner[0] == '\\' || inner[0] >= utf8.RuneSelf) {
		// Perhaps a blank of another kind.
		s, _ := text(value)
		inner = []byte(s)
	}
	return len(inner) == 0 || null && bytes.EqualFold(inner, []byte("null"))
}

// A record is an object of a message, with the fields that this package knows.
type record struct {
	raw   []byte
	at    [fieldCount][]byte // JSON; nil where the field is absent, null or empty
	twice field              // the first field that is given twice and differs, fNone without
	long  field              // the first that is longer than any may be and so is not in at, fNone without
}

// longestValue is how many bytes of JSON a value may have that is no list: more than
// the longest that is taken, 200 characters, however they are escaped. What stands around the
// rows goes into each of them, so without a limit a small message could fill the memory.
const longestValue = 2000

// listed tells whether f may hold rows or codes.
func (f field) listed() bool { return f >= fInput && f <= fTracCode }

// read makes r the record of an object. It is false for another value.
func (r *record) read(object []byte) bool {
	*r = record{raw: object}
	if len(object) == 0 || object[0] != '{' {
		return false
	}
	each(object, func(name, value []byte) {
		f := fieldOf(name)
		if f == fNone || saysNothing(value, f != fTracCodg && f != fTracCode) {
			return
		}
		if len(value) > longestValue && !f.listed() {
			r.long = cmp.Or(r.long, f)
			return
		}
		before := r.at[f]
		switch {
		case before == nil:
			r.at[f] = value
		case r.twice == fNone && !bytes.Equal(before, value):
			// Once only: to read a long value for each of many repeats would take for ever.
			was, scalar := text(before)
			if is, ok := text(value); !scalar || !ok || was != is {
				r.twice = f
			}
		}
	})
	return true
}

// has tells whether f is there.
func (r *record) has(f field) bool { return r.at[f] != nil }

// text returns what f says, empty when it is absent or no scalar.
func (r *record) text(f field) string {
	s, _ := text(r.at[f])
	return s
}

// nodes are the members that may hold rows, in any transaction: programs mix
// the names up (3506 under purcinfo is common).
var nodes = [...]field{fInvInfo, fInvDetail, fPurcInfo, fPurcDetail, fSelInfo, fSelDetail, fData, fGoodDetail}

// A pile is the rows of a message as they came, and the codes beside them.
type pile struct {
	rows   [][]byte // no more than MaxRows
	beside [][]byte // values of drugtracinfo that stand beside a node
	found  bool     // whether there is a node, if only an empty one
	twice  field    // a field that is given twice around the rows and differs
	over   bool     // whether there are more than MaxRows
}

// collect adds the rows that value, the input or a node of it, holds.
func (p *pile) collect(value []byte, depth int) {
	var r record
	elements(unwrap(value), func(element []byte) bool {
		element = unwrap(element)
		nested := false
		if depth < maxNesting && r.read(element) {
			for _, f := range nodes {
				if r.has(f) {
					nested, p.found = true, true
					p.collect(r.at[f], depth+1)
				}
			}
		}
		switch {
		case nested:
			if p.twice == fNone {
				p.twice = r.twice
			}
			for _, f := range [...]field{fTracInfo, fTracCodg, fTracCode} {
				if r.has(f) {
					p.beside = append(p.beside, r.at[f])
				}
			}
		case len(p.rows) == MaxRows:
			p.over = true
			return false
		default:
			p.rows = append(p.rows, element)
		}
		return true
	})
}
