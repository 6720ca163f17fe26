package nhsa

import (
	"strings"
	"time"
	"unicode"

	"yaosu/schema"
)

// trim takes blanks off both ends, the full-width one and a byte order mark too.
func trim(s string) string {
	return strings.TrimFunc(s, func(r rune) bool { return unicode.IsSpace(r) || r == '\uFEFF' })
}

// separator tells what stands between codes that share one string.
func separator(r rune) bool {
	switch r {
	case ',', '\uFF0C', ';', '\uFF1B', '\u3001', '\uFEFF': // also the full-width ones
		return true
	}
	return unicode.IsSpace(r)
}

// classifier knows an item code; it is never changed. Placeholders that users add do not matter here.
var classifier = schema.NewClassifier(nil)

// splitCodes returns the codes that share the string s, no more than most. A
// comma may also be part of a GS1 serial, so one GS1 or MA code stays whole
// unless each part of it is a code by itself.
func splitCodes(s string, most int) (parts []string) {
	for part := range strings.FieldsFuncSeq(s, separator) {
		if len(parts) == most {
			break
		}
		parts = append(parts, part)
	}
	whole := trim(s)
	if len(parts) < 2 || len(whole) > longestCode {
		return parts
	}
	if code := classifier.Classify(whole, ""); code.Scheme == schema.SchemeGS1 || code.Scheme == schema.SchemeMA {
		for _, part := range parts {
			if !isItem(part, "") {
				return []string{whole}
			}
		}
	}
	return parts
}

// longestCode is more than any one code has; links are the longest.
const longestCode = 1000

func isItem(code, drug string) bool {
	c := classifier.Classify(code, drug)
	return c.Item()
}

// A moment is what a field of time says.
type moment struct {
	at      time.Time // in Chinese time where no zone is given
	dayOnly bool
}

// readMoment reads the forms of time met in the field: 2026-01-05 10:11:12 with
// and without the blank, with T, with a fraction, with a zone, with slashes or
// points, without seconds, compact in 8, 14 or 17 digits, and milliseconds since
// 1970 in 13.
func readMoment(s string) (m moment, ok bool) {
	digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
	p := parser{rest: s, ok: true}
	var year, month, day, hour, minute, second, nanos int
	zone := schema.Shanghai
	switch {
	case digits == len(s) && digits == 13 && s[0] == '1':
		milli := 0
		for _, c := range []byte(s) {
			milli = milli*10 + int(c-'0')
		}
		return moment{at: time.UnixMilli(int64(milli)).In(schema.Shanghai)}, true
	case digits == len(s) && (digits == 8 || digits == 14 || digits == 17):
		year, month, day = p.exactly(4), p.exactly(2), p.exactly(2)
		if m.dayOnly = digits == 8; !m.dayOnly {
			hour, minute, second = p.exactly(2), p.exactly(2), p.exactly(2)
		}
		if digits == 17 {
			nanos = p.exactly(3) * int(time.Millisecond)
		}
	default:
		year = p.exactly(4)
		p.mark("-/.")
		month = p.upTo(2)
		p.mark("-/.")
		day = p.upTo(2)
		if m.dayOnly = p.rest == ""; m.dayOnly {
			break
		}
		if !p.has("T") && !p.has("t") {
			p.rest = strings.TrimLeft(p.rest, " ")
		}
		hour = p.upTo(2)
		p.mark(":")
		minute = p.exactly(2)
		if p.has(":") {
			second = p.exactly(2)
			if p.has(".") {
				nanos = p.fraction()
			}
		}
		zone = p.zone()
	}
	at := time.Date(year, time.Month(month), day, hour, minute, second, nanos, zone)
	// time.Date makes a date of anything; what it changed was none.
	real := at.Year() == year && int(at.Month()) == month && at.Day() == day && hour < 24 && minute < 60 && second < 60
	if !p.ok || p.rest != "" || !real || year == 0 {
		return moment{}, false
	}
	m.at = at.In(schema.Shanghai)
	return m, true
}

// A parser reads a text from the left; once ok is false it stays so.
type parser struct {
	rest string
	ok   bool
}

// upTo reads a number of one to n digits.
func (p *parser) upTo(n int) (value int) {
	i := 0
	for ; i < n && i < len(p.rest) && p.rest[i] >= '0' && p.rest[i] <= '9'; i++ {
		value = value*10 + int(p.rest[i]-'0')
	}
	p.ok = p.ok && i > 0
	p.rest = p.rest[i:]
	return value
}

// exactly reads a number of n digits.
func (p *parser) exactly(n int) int {
	before := len(p.rest)
	value := p.upTo(n)
	p.ok = p.ok && before-len(p.rest) == n
	return value
}

// mark reads one of the marks.
func (p *parser) mark(marks string) {
	if p.rest == "" || !strings.Contains(marks, p.rest[:1]) {
		p.ok = false
		return
	}
	p.rest = p.rest[1:]
}

// has reads mark if it is there.
func (p *parser) has(mark string) (found bool) {
	p.rest, found = strings.CutPrefix(p.rest, mark)
	return found
}

// fraction reads the digits behind the point of a second, as nanoseconds.
func (p *parser) fraction() (nanos int) {
	scale := int(time.Second)
	p.ok = p.ok && p.rest != ""
	for len(p.rest) > 0 && p.rest[0] >= '0' && p.rest[0] <= '9' {
		scale /= 10
		nanos += int(p.rest[0]-'0') * scale
		p.rest = p.rest[1:]
	}
	p.ok = p.ok && scale < int(time.Second)
	return nanos
}

// zone reads what may stand behind a time: nothing (Chinese time), Z, +08:00, +0800.
func (p *parser) zone() *time.Location {
	sign := 1
	switch {
	case p.rest == "":
		return schema.Shanghai
	case p.has("Z"), p.has("z"):
		return time.UTC
	case p.has("+"):
	case p.has("-"):
		sign = -1
	default:
		p.ok = false
		return time.UTC
	}
	hours := p.exactly(2)
	p.has(":")
	minutes := p.exactly(2)
	p.ok = p.ok && hours < 24 && minutes < 60
	return time.FixedZone("", sign*(hours*60+minutes)*60)
}

// readDate reads a date. A month alone is its first day, or with end its last,
// as medicines expire. Absent is what programs write for a date they do not
// have: a dash, 无, the year 0, and the first days of their calendars, the years
// 1 and 1900.
func readDate(s string, end bool) (date time.Time, absent, ok bool) {
	if s == "-" || s == "/" || s == "无" || s == "0" || strings.HasPrefix(s, "0000") {
		return time.Time{}, true, true
	}
	if m, ok := readMoment(s); ok {
		year, month, day := m.at.Date()
		none := (year == 1 || year == 1900) && month == 1 && day == 1
		return time.Date(year, month, day, 0, 0, 0, 0, time.UTC), none, true
	}
	p := parser{rest: s, ok: true}
	year := p.exactly(4)
	if len(s) != 6 {
		p.mark("-/.")
	}
	month := p.upTo(2)
	if !p.ok || p.rest != "" || month < 1 || month > 12 {
		return time.Time{}, false, false
	}
	date = time.Date(year, time.Month(month), 1, 0, 0, 0, 0, time.UTC)
	if end {
		date = date.AddDate(0, 1, -1)
	}
	return date, false, true
}
