package schema

import (
	"bytes"
	"io"
	"unicode/utf8"

	"github.com/go-faster/jx"
)

// ScrubPerson returns raw, the bytes of a refused event, with everybody's
// number replaced by pseudonym(number), so that they can be kept where person
// numbers may not be. It is meant for broken JSON too: it looks for the names
// person, psn_no, certno, psn_name and mdtrt_cert_no, in any case and nesting,
// with and without underscores, also inside a string that holds JSON, and replaces what follows. Where it
// cannot tell where a value ends it takes more rather than less. It knows
// nothing of numbers in other fields.
//
// Bytes that are no text cannot be searched: the result is nil then. Raw
// itself is not changed.
func ScrubPerson(raw []byte, pseudonym func(string) string) []byte {
	if !utf8.Valid(raw) || bytes.IndexByte(raw, 0) >= 0 {
		return nil
	}
	out := make([]byte, 0, len(raw)+64)
	done := 0 // raw[:done] is in out
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case 'p', 'P', 'c', 'C', 'm', 'M', '\\':
		default:
			continue
		}
		at, mark := personName(raw, i)
		if at < 0 {
			continue
		}
		v := personValue(raw, at, mark)
		if v.number != "" {
			out = append(out, raw[done:v.from]...)
			if v.open {
				out = append(out, v.mark...)
			}
			out = appendEscaped(out, pseudonym(v.number))
			if v.close {
				out = append(out, v.mark...)
			}
			done = v.to
		}
		i = max(i, v.to-1)
	}
	return append(out, raw[done:]...)
}

var personNames = [...]string{"person", "psn_no", "cert_no", "psn_name", "mdtrt_cert_no"}

// personName returns where the value begins of a member of that kind whose
// name begins at raw[at], and the quotation mark to use (with the backslashes
// it has inside a string). End is -1 when there is none.
func personName(raw []byte, at int) (end int, mark []byte) {
	if at > 0 && wordByte(raw[at-1]) && !afterEscape(raw, at) {
		return -1, nil
	}
	for _, name := range personNames {
		i := at
		for k := 0; k < len(name) && i >= 0; k++ {
			next := matchLetter(raw, i, name[k])
			if next < 0 && name[k] == '_' {
				next = i // psnNo
			}
			i = next
		}
		if i < 0 {
			continue
		}
		mark = quoteMark(raw, i)
		i += len(mark)
		i = skipBlank(raw, i)
		if i < len(raw) && (raw[i] == ':' || raw[i] == '=') {
			return skipBlank(raw, i+1), mark
		}
	}
	return -1, nil
}

// wordByte tells whether c before a name makes it part of a longer name.
func wordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// afterEscape tells whether the letter before raw[at] belongs to an escape
// such as \n.
func afterEscape(raw []byte, at int) bool {
	return at >= 2 && raw[at-2] == '\\' || at >= 6 && raw[at-6] == '\\' && raw[at-5] == 'u'
}

// matchLetter returns what follows the letter c at raw[i], whatever its case
// and whether it is written as itself or as \u0070; -1 when it is another.
func matchLetter(raw []byte, i int, c byte) int {
	if i >= len(raw) {
		return -1
	}
	got := raw[i]
	if got == '\\' {
		for i < len(raw) && raw[i] == '\\' {
			i++
		}
		if len(raw)-i < 5 || raw[i] != 'u' || raw[i+1] != '0' || raw[i+2] != '0' {
			return -1
		}
		high, low := hexDigit(raw[i+3]), hexDigit(raw[i+4])
		if high < 0 || low < 0 {
			return -1
		}
		got = byte(high<<4 | low)
		i += 4
	}
	if got >= 'A' && got <= 'Z' {
		got += 'a' - 'A'
	}
	if got != c {
		return -1
	}
	return i + 1
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// quoteMark returns the quotation mark at raw[i] with the backslashes before
// it, or spelled \u0022 as some writers do inside strings; empty when there is
// none.
func quoteMark(raw []byte, i int) []byte {
	end := i
	for end < len(raw) && raw[end] == '\\' {
		end++
	}
	switch {
	case end == len(raw):
	case raw[end] == '"' || raw[end] == '\'':
		return raw[i : end+1]
	case end > i && (bytes.HasPrefix(raw[end:], []byte("u0022")) || bytes.HasPrefix(raw[end:], []byte("u0027"))):
		return raw[i : end+5]
	}
	return nil
}

// A scrubValue is a part of the event that is to be replaced.
type scrubValue struct {
	from, to    int
	number      string // what it says; empty when there is nothing to hide
	mark        []byte // quotation mark that goes with it
	open, close bool   // which of the marks are missing
}

// personValue finds the value that begins at raw[at], keyMark being the mark
// behind its name.
func personValue(raw []byte, at int, keyMark []byte) scrubValue {
	if mark := quoteMark(raw, at); len(mark) > 0 {
		v := scrubValue{from: at + len(mark), mark: mark}
		var closed bool
		v.to, closed = closingMark(raw, v.from, mark)
		next := v.to
		if closed {
			next += len(mark)
		}
		over := bareEnd(raw, next)
		junk := len(trimEscaped(raw[next:over])) > 0
		if closed && !junk {
			v.number = decoded(raw[v.from:v.to])
			return v
		}
		// The closing mark is missing, or it was not the closing one.
		v.close = true
		if n := bytes.IndexAny(raw[v.from:v.to], ",}]"); n >= 0 && len(bytes.Trim(raw[v.from+n:v.to], ",{}[] \t\r")) == 0 {
			v.to = v.from + n // "123,"drug":…
		} else if junk {
			v.to = over
		}
		v.number = decoded(raw[v.from:v.to])
		return v
	}
	if len(keyMark) == 0 {
		keyMark = []byte{'"'}
	}
	v := scrubValue{from: at, to: len(raw), mark: keyMark, open: true, close: true}
	if at < len(raw) && (raw[at] == '{' || raw[at] == '[') {
		v.to = closingBracket(raw, at)
	} else {
		v.to = bareEnd(raw, at)
	}
	v.number = string(bytes.Trim(raw[v.from:v.to], " \t\r\"'\\"))
	if v.number == "null" {
		v.number = ""
	}
	return v
}

// trimEscaped trims blanks, as they are and as \n inside a string.
func trimEscaped(b []byte) []byte {
	for {
		b = bytes.Trim(b, " \t\r")
		n := 0
		for n < len(b) && b[n] == '\\' {
			n++
		}
		if n == 0 || n == len(b) || b[n] != 'n' && b[n] != 'r' && b[n] != 't' {
			return b
		}
		b = b[n+1:]
	}
}

// closingMark finds the mark that ends a string which begins at raw[from],
// behind such a mark. A string never goes over the end of a line, nor over the
// end of the string it lies in.
func closingMark(raw []byte, from int, mark []byte) (to int, closed bool) {
	slashes := 0
	quote, depth := mark[len(mark)-1], len(mark)-1
	spelled := quote == '2' || quote == '7'
	for i := from; i < len(raw); i++ {
		switch c := raw[i]; {
		case spelled && c == '\\' && bytes.HasPrefix(raw[i:], mark):
			return i, true
		case c == '\n', spelled && c == '"':
			return i, false
		case spelled:
		case c == '\\':
			slashes++
			continue
		case c == quote && depth == 0 && slashes%2 == 0:
			return i, true
		case c == quote && depth > 0 && slashes <= depth:
			return i - slashes, slashes == depth
		}
		slashes = 0
	}
	return len(raw), false
}

// closingBracket finds the end of the object or array that begins at raw[at].
func closingBracket(raw []byte, at int) int {
	depth, inside := 0, false
	for i := at; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '\\':
			i++
		case c == '"':
			inside = !inside
		case inside:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(raw)
}

// bareEnd finds where a value without quotation marks ends.
func bareEnd(raw []byte, at int) int {
	if n := bytes.IndexAny(raw[at:], ",}]\n"); n >= 0 {
		return at + n
	}
	return len(raw)
}

// decoded undoes the escapes of v, so that a number has one pseudonym however
// it is spelled.
func decoded(v []byte) string {
	if bytes.IndexByte(v, '\\') >= 0 {
		quoted := append(append([]byte{'"'}, v...), '"')
		d := jx.DecodeBytes(quoted)
		if s, err := d.Str(); err == nil && d.Skip() == io.EOF {
			return s
		}
	}
	return string(v)
}

// appendEscaped appends v as it stands between quotation marks.
func appendEscaped(b []byte, v string) []byte {
	var w jx.Writer
	w.Str(v)
	return append(b, w.Buf[1:len(w.Buf)-1]...)
}

func skipBlank(raw []byte, i int) int {
	for i < len(raw) && raw[i] <= ' ' && blank(raw[i]) {
		i++
	}
	return i
}
