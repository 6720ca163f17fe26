package schema

import (
	"bytes"
	"iter"
	"strings"
	"unicode/utf8"
)

// Content types of a message body. An absent one means: look.
const (
	ContentJSON   = "application/json"
	ContentNDJSON = "application/x-ndjson"
	ContentArrow  = "application/vnd.apache.arrow.stream"

	// ContentRefused is one event that was refused before it came to the stream, by
	// the door: the body is its bytes, the headers Reject-Code, Reject-Reason and
	// Reject-Field say why. A type of its own, so that whoever does not know it
	// refuses the body and never takes it for an event.
	ContentRefused = "application/vnd.yaosu.refused"
)

// Events splits the body of one message into the bytes of its events: one
// JSON object, a JSON array of them, or one object a line. An absent content
// type is guessed from the body, parameters of it are ignored.
//
// It looks for where events begin and end and leaves what is inside to
// DecodeJSON, so that a broken event costs itself and not its neighbours (who
// wants to know what is inside asks Decoder.Events, which does both at once); only
// where brackets or quotes are missing does it have to guess the end. What is
// no event at all, such as a cut off end, comes with a Refusal and its bytes;
// every byte that is not blank or between events is in some pair. The slices
// alias payload.
func Events(payload []byte, contentType string) iter.Seq2[[]byte, *Refusal] {
	return func(yield func([]byte, *Refusal) bool) {
		split(payload, contentType, nil, func(raw []byte, why *Refusal, _ bool) bool { return yield(raw, why) })
	}
}

// A sink is given each event of a message, and whether a Decoder has read it
// already. It says whether to go on.
type sink func(raw []byte, why *Refusal, read bool) bool

// event finds the end of the event that begins at body[at], like value. A
// reader, if there is one, reads it where it stands, so that its end need not
// be looked for.
func event(body []byte, at int, repair bool, reader *Decoder) (end int, ok, read bool) {
	if reader != nil {
		if end, ok = reader.plain(body, at); ok {
			return end, true, true
		}
	}
	end, ok = value(body, at, repair)
	return end, ok, false
}

// split tells yield of the events of a message. It takes the reader and yield
// side by side, not as one struct, so that the compiler sees that neither is
// kept and a message costs no allocation.
func split(payload []byte, contentType string, reader *Decoder, yield sink) {
	body := trimBlank(bytes.TrimPrefix(payload, byteOrderMark))
	kind, _, _ := strings.Cut(contentType, ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	switch kind {
	case "", ContentJSON, ContentNDJSON:
	case ContentArrow:
		yield(payload, &Refusal{Code: RefuseTransport, Reason: "an Arrow stream has no JSON events"}, false)
		return
	case ContentRefused:
		yield(payload, &Refusal{Code: RefuseTransport, Reason: "the event was refused before it was published"}, false)
		return
	default:
		yield(payload, &Refusal{Code: RefuseTransport, Reason: "the content type is none of " + ContentJSON + ", " + ContentNDJSON + " and " + ContentArrow}, false)
		return
	}
	switch {
	case len(body) == 0:
		yield(payload, &Refusal{Code: RefuseMessage, Reason: "the message is empty"}, false)
	case compressed(body):
		yield(payload, &Refusal{Code: RefuseMessage, Reason: "the message is compressed"}, false)
	case kind == ContentNDJSON:
		lines(body, yield)
	case kind == ContentJSON:
		values(body, reader, yield)
	default:
		sniff(payload, body, reader, yield)
	}
}

var byteOrderMark = []byte("\xEF\xBB\xBF")

// sniff decides for body between a JSON value, perhaps over many lines, and
// one event a line.
func sniff(payload, body []byte, reader *Decoder, yield sink) {
	open := body[0] == '{' || body[0] == '['
	if !open && !utf8.Valid(body) {
		// A picture or an Arrow stream would fall into thousands of "lines".
		yield(payload, &Refusal{Code: RefuseMessage, Reason: "the message is neither JSON nor text"}, false)
		return
	}
	first, _, many := bytes.Cut(body, []byte("\n"))
	first = trimBlank(first)
	last := first[len(first)-1]
	switch {
	case open && (!many || wholeValue(body)):
		values(body, reader, yield)
	case body[0] == '[' && (last == '[' || last == ',' || last == '{'):
		values(body, reader, yield) // an array over several lines, broken or cut off
	case body[0] == '{' && last == '{' && len(first) == 1:
		values(body, reader, yield) // an indented object, broken or cut off
	default:
		lines(body, yield)
	}
}

// wholeValue tells whether body, which begins with a bracket, is one value.
func wholeValue(body []byte) bool {
	end, ok := value(body, 0, false)
	return ok && end == len(body)
}

// lines yields one event a line.
func lines(body []byte, yield sink) {
	for len(body) > 0 {
		var line []byte
		line, body, _ = bytes.Cut(body, []byte("\n"))
		// Files that were joined leave a mark in the middle.
		line = trimBlank(bytes.TrimPrefix(trimBlank(line), byteOrderMark))
		if len(line) > 0 && !yield(line[:len(line):len(line)], nil, false) {
			return
		}
	}
}

// values yields the events of JSON values that follow each other; usually it
// is one. Arrays are opened.
func values(body []byte, reader *Decoder, yield sink) {
	for body = trimBlank(body); len(body) > 0; body = trimBlank(body) {
		if body[0] == '[' {
			var more bool
			if body, more = array(body, reader, yield); !more {
				return
			}
			continue
		}
		end, ok, read := len(body), false, false
		if body[0] == '{' {
			end, ok, read = event(body, 0, false, reader)
			if !ok {
				end = len(body) // what is cut off stays one event: DecodeJSON says what is wrong
			}
		}
		if !yield(body[:end:end], nil, read) {
			return
		}
		body = body[end:]
	}
}

// array yields the elements of the array body begins with and returns what
// follows it, and whether to go on.
func array(body []byte, reader *Decoder, yield sink) (rest []byte, more bool) {
	at := 1
	for {
		for at < len(body) && (blank(body[at]) || body[at] == ',') {
			at++
		}
		if at == len(body) {
			// All elements are complete, only the bracket is missing.
			return nil, yield(nil, &Refusal{Code: RefuseJSON, Reason: "the array is cut off"}, false)
		}
		if body[at] == ']' {
			rest = trimBlank(body[at+1:])
			if len(rest) == 0 || rest[0] != ',' {
				return rest, true
			}
			// Elements follow: a bracket that a broken one left behind.
			if !yield(body[at:at+1:at+1], nil, false) {
				return nil, false
			}
			at++
			continue
		}
		end, ok, read := event(body, at, true, reader)
		if !ok {
			return nil, yield(body[at:len(body):len(body)], &Refusal{Code: RefuseJSON, Reason: "the array is cut off in this element"}, false)
		}
		if raw := trimBlank(body[at:end:end]); !yield(raw, nil, read) {
			return nil, false
		}
		at = end
	}
}

// value finds the end of the value that begins at body[at], by brackets and
// strings alone. It is false when the value does not end.
//
// With repair, a value whose brackets or strings cannot be right (a quote or a
// bracket is missing) ends where the next element of an array seems to begin:
// behind a brace that is followed by a comma and another brace, or by the end
// of the array. That is a guess, but never made about valid JSON.
func value(body []byte, at int, repair bool) (end int, ok bool) {
	// What stood before the current byte.
	const (
		opener = iota // a bracket, a comma, a colon or nothing: a value may begin
		scalar        // a letter or digit outside a string
		closed        // a string or a closing bracket: no value may begin
	)
	var (
		room   [64]byte
		stack  = room[:0] // the open brackets
		before = opener
		comma  = -1 // where the comma is that stood last, -1 when something followed it
		quote  = at // where the last string begins
	)
	broken := func(from int) (int, bool) {
		if !repair {
			return 0, false
		}
		return resync(body, from)
	}
	for i := at; i < len(body); i++ {
		switch c := body[i]; c {
		case ' ', '\t', '\r', '\n':
			continue
		case '"':
			if before != opener {
				return broken(quote)
			}
			quote = i
			for i++; i < len(body) && body[i] != '"' && body[i] != '\n'; i++ {
				if body[i] == '\\' {
					i++
				}
			}
			if i >= len(body) || body[i] == '\n' {
				return broken(quote)
			}
			before = closed
			if len(stack) == 0 && !ends(body, i+1) {
				return broken(quote)
			}
		case '{', '[':
			// An object whose next member is an object: its brace is missing.
			if repair && c == '{' && comma >= 0 && len(stack) == 1 && stack[0] == '{' {
				return comma, true
			}
			if before != opener {
				return broken(quote)
			}
			stack = append(stack, c)
			before = opener
		case '}', ']':
			if len(stack) == 0 {
				if c == ']' {
					return i, true // of the array around it
				}
				before = scalar // one brace too many: an element of its own
				break
			}
			if stack[len(stack)-1] != c-2 { // '{' and '[' lie two before '}' and ']'
				if repair && c == ']' && len(stack) == 1 && len(trimBlank(body[i+1:])) == 0 {
					return i, true // the last object lacks its brace
				}
				return broken(i)
			}
			stack = stack[:len(stack)-1]
			before = closed
			if len(stack) == 0 {
				return i + 1, true
			}
		case ',':
			if len(stack) == 0 {
				return i, true
			}
			before, comma = opener, i
			continue
		case ':':
			before = opener
		default:
			if before == closed {
				return broken(quote)
			}
			before = scalar
		}
		comma = -1
	}
	return broken(quote)
}

// ends tells whether a value may end before body[at].
func ends(body []byte, at int) bool {
	for ; at < len(body); at++ {
		if !blank(body[at]) {
			return body[at] == ',' || body[at] == ']'
		}
	}
	return true
}

// resync finds where, at or after from, a broken element of an array ends.
func resync(body []byte, from int) (end int, ok bool) {
	skip := func(i int) int {
		for i < len(body) && blank(body[i]) {
			i++
		}
		return i
	}
	for i := from; i < len(body); i++ {
		if body[i] != '}' {
			continue
		}
		next := skip(i + 1)
		if next == len(body) {
			return 0, false
		}
		switch body[next] {
		case ',':
			if after := skip(next + 1); after < len(body) && body[after] == '{' {
				return i + 1, true
			}
		case ']':
			if skip(next+1) == len(body) {
				return i + 1, true
			}
		}
	}
	return 0, false
}

func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

func trimBlank(b []byte) []byte {
	for len(b) > 0 && blank(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && blank(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

// compressed knows gzip and Zstandard by their first bytes.
func compressed(b []byte) bool {
	return bytes.HasPrefix(b, []byte{0x1F, 0x8B}) || bytes.HasPrefix(b, []byte{0x28, 0xB5, 0x2F, 0xFD})
}
