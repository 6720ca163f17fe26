package schema

import (
	"net/url"
	"strings"
	"time"
)

// elements are the fields of a GS1 element string or link that matter here.
type elements struct {
	gtin   string // 14 digits, check digit not looked at
	serial string
	lot    string
	expiry string // as read: YYMMDD
}

// outcome of reading a string as GS1 elements.
type outcome int

const (
	notElements outcome = iota // some other kind of string
	whole                      // read to its end
	tooLong                    // a field longer than its AI allows
	cutOff                     // ends inside a field of fixed length
)

// readGS1 takes s when it is GS1 data with a GTIN. A string that is not GS1 from
// end to end is left to the later schemes, with a flag when it began as GS1.
func (c *Code) readGS1(s string) bool {
	var e elements
	var got outcome
	switch {
	case isDigit(s[0]):
		e, got = readElements(s)
	case s[0] == '(':
		e, got = readBrackets(s)
	case s[0] == 'h' || s[0] == 'H':
		e, got = readLink(s)
	}
	gtin, right := NormalGTIN(e.gtin)
	if got != whole {
		switch {
		case !right:
		case got == tooLong && eanAtEnd(s, gtin):
			c.flag(FlagEANInLot)
		case got == tooLong:
			c.flag(FlagNoGS)
		case got == cutOff:
			c.flag(FlagTruncated)
		}
		return false
	}
	if e.gtin == "" {
		return false
	}
	if !right {
		c.flag(FlagCheckDigit)
		return true
	}

	c.Product, c.Lot = gtin, e.lot
	if e.expiry != "" {
		date, ok := gs1Date(e.expiry)
		if !ok {
			c.flag(FlagDate)
		}
		c.Expires = date
	}
	if eanAtEnd(e.lot, gtin) || eanAtEnd(e.serial, gtin) {
		c.flag(FlagEANInLot)
	}
	if swallowed(e.lot, e) || swallowed(e.serial, e) {
		c.flag(FlagNoGS)
	}
	if e.serial == "" {
		c.Scheme = SchemeProduct
		return true
	}
	if allSmall(e.serial) {
		c.flag(FlagLowerCase)
	}
	c.Scheme, c.Key = SchemeGS1, "01"+gtin+"21"+e.serial
	return true
}

const gs = 0x1D // group separator: how a scanner transmits FNC1

// readElements reads plain element strings. A field of variable length ends at
// GS or at the end; GS elsewhere between fields is harmless and read over.
func readElements(s string) (elements, outcome) {
	var e elements
	for s != "" {
		if s[0] == gs {
			s = s[1:]
			continue
		}
		ai, f := findAI(s)
		if ai == "" {
			return e, notElements
		}
		s = s[len(ai):]
		end := strings.IndexByte(s, gs)
		if end < 0 {
			end = len(s)
		}
		if f.least == f.most && end > f.most {
			end = f.most
		}
		if got := f.check(s[:end]); got != whole {
			return e, got
		}
		if !e.put(ai, s[:end]) {
			return e, notElements
		}
		s = s[end:]
	}
	return e, whole
}

// readBrackets reads the form meant for people, (01)…(21)…, with or without
// blanks or GS between the fields. A field may hold brackets of its own, as long
// as there is no AI in them.
func readBrackets(s string) (elements, outcome) {
	var e elements
	for s != "" {
		ai, f := findBracketAI(s)
		if ai == "" {
			return e, notElements
		}
		s = s[len(ai)+2:]
		end := 0
		for end < len(s) {
			if s[end] == '(' {
				if next, _ := findBracketAI(s[end:]); next != "" {
					break
				}
			}
			end++
		}
		value := strings.TrimFunc(s[:end], noise)
		if got := f.check(value); got != whole {
			return e, got
		}
		if !e.put(ai, value) {
			return e, notElements
		}
		s = s[end:]
	}
	return e, whole
}

func findBracketAI(s string) (string, field) {
	end := strings.IndexByte(s[:min(len(s), 6)], ')')
	if s[0] != '(' || end < 0 {
		return "", field{}
	}
	ai, f := findAI(s[1:end])
	if len(ai) != end-1 {
		return "", field{}
	}
	return ai, f
}

// maxLink bounds the work one string can cause; links on packs are far shorter.
const maxLink = 2000

// readLink reads a GS1 Digital Link URL: any host and leading path, then pairs
// of AI and value from 01 on; the rest of the data may stand in the query.
func readLink(s string) (elements, outcome) {
	scheme, rest, found := strings.Cut(s, "://")
	if !found || len(s) > maxLink || !strings.EqualFold(scheme, "https") && !strings.EqualFold(scheme, "http") {
		return elements{}, notElements
	}
	rest, _, _ = strings.Cut(rest, "#")
	rest, query, _ := strings.Cut(rest, "?")
	parts := strings.Split(strings.TrimRight(rest, "/"), "/")
	if parts[0] == "" {
		return elements{}, notElements // no host
	}
	worst := notElements
	var part elements
	for i := 1; i+1 < len(parts); i++ {
		if linkAI(parts[i]) != "01" {
			continue
		}
		switch e, got := readPath(parts[i:]); got {
		case whole:
			e.readQuery(query)
			return e, whole
		case notElements:
		default:
			part, worst = e, got
		}
	}
	return part, worst
}

func readPath(parts []string) (elements, outcome) {
	var e elements
	if len(parts)%2 != 0 {
		return e, notElements
	}
	for i := 0; i < len(parts); i += 2 {
		ai := linkAI(parts[i])
		known, f := findAI(ai)
		value, err := url.PathUnescape(parts[i+1])
		if err != nil || known == "" || known != ai {
			return e, notElements
		}
		if ai == "01" {
			if value = padGTIN(value); value == "" {
				return e, notElements
			}
		}
		if got := f.check(value); got != whole {
			return e, got
		}
		if !e.put(ai, value) {
			return e, notElements
		}
	}
	return e, whole
}

// readQuery fills what the path did not say. What is malformed here is passed
// over: a query may hold anything, the path is what names the box.
func (e *elements) readQuery(query string) {
	for query != "" {
		var pair string
		end := strings.IndexAny(query, "&;")
		if end < 0 {
			end = len(query)
		}
		pair, query = query[:end], query[min(end+1, len(query)):]
		name, value, _ := strings.Cut(pair, "=")
		ai := linkAI(name)
		switch {
		case ai == "21" && e.serial == "":
		case ai == "10" && e.lot == "":
		case ai == "17" && e.expiry == "":
		default:
			continue
		}
		_, f := findAI(ai)
		value, err := url.PathUnescape(value)
		if err == nil && f.check(value) == whole {
			e.put(ai, value)
		}
	}
}

// linkAI turns the words that older links use for AIs into the AIs.
func linkAI(name string) string {
	switch strings.ToLower(name) {
	case "gtin":
		return "01"
	case "cpv":
		return "22"
	case "lot":
		return "10"
	case "ser":
		return "21"
	case "exp":
		return "17"
	}
	return name
}

// put stores one field. It refuses a second value for the same field: then the
// string speaks of two boxes, or of none.
func (e *elements) put(ai, value string) bool {
	var at *string
	switch ai {
	case "01":
		at = &e.gtin
	case "21":
		at = &e.serial
	case "10":
		at = &e.lot
	case "17":
		at = &e.expiry
	default:
		return true
	}
	if *at != "" && *at != value {
		return false
	}
	*at = value
	return true
}

// field is the form of one AI's value.
type field struct {
	least, most int
	digits      bool // else any of GS1's character set 82
}

func (f field) check(value string) outcome {
	for i := range len(value) {
		if f.digits && !isDigit(value[i]) || !in82(value[i]) {
			return notElements
		}
	}
	switch {
	case len(value) > f.most:
		return tooLong
	case len(value) >= f.least && value != "":
		return whole
	case f.least == f.most:
		return cutOff
	}
	return notElements
}

// in82 reports whether b is in GS1's character set 82, the one of AIs 10 and 21.
func in82(b byte) bool {
	return isDigit(b) || isLetter(b) || '%' <= b && b <= '/' || ':' <= b && b <= '?' || b == '!' || b == '"' || b == '_'
}

// findAI returns the AI that s begins with, "" when there is none.
func findAI(s string) (string, field) {
	if len(s) < 2 {
		return "", field{}
	}
	switch s[:2] { // the ones on medicine packs
	case "01":
		return s[:2], field{14, 14, true}
	case "17", "11", "12", "13", "15", "16":
		return s[:2], field{6, 6, true}
	case "10", "21":
		return s[:2], field{1, 20, false}
	}
	for i := range otherAIs {
		a := &otherAIs[i]
		if n := len(a.first); len(s) >= n && a.first <= s[:n] && s[:n] <= a.last {
			return s[:n], a.field
		}
	}
	return "", field{}
}

// otherAIs are the AIs with no meaning here; a string that holds them can still
// be read. Source: GS1 General Specifications, section 3. No AI is the
// beginning of another, so the order is free.
var otherAIs = [...]struct {
	first, last string // both included, of equal length
	field
}{
	{"00", "00", field{18, 18, true}},
	{"02", "03", field{14, 14, true}},
	{"20", "20", field{2, 2, true}},
	{"22", "22", field{1, 20, false}},
	{"235", "235", field{1, 28, false}},
	{"240", "241", field{1, 30, false}},
	{"242", "242", field{1, 6, true}},
	{"243", "243", field{1, 20, false}},
	{"250", "251", field{1, 30, false}},
	{"253", "253", field{13, 30, false}},
	{"254", "254", field{1, 20, false}},
	{"255", "255", field{13, 25, true}},
	{"30", "30", field{1, 8, true}},
	{"37", "37", field{1, 8, true}},
	{"90", "90", field{1, 30, false}},
	{"91", "99", field{1, 90, false}},
	{"710", "717", field{1, 20, false}},
	{"3100", "3169", field{6, 6, true}}, // measures; the last digit places the point
	{"3200", "3379", field{6, 6, true}},
	{"3400", "3579", field{6, 6, true}},
	{"3600", "3699", field{6, 6, true}},
	{"3900", "3909", field{1, 15, true}},
	{"3910", "3919", field{4, 18, true}},
	{"3920", "3929", field{1, 15, true}},
	{"3930", "3939", field{4, 18, true}},
	{"3940", "3943", field{4, 4, true}},
	{"3950", "3955", field{6, 6, true}},
	{"400", "401", field{1, 30, false}},
	{"402", "402", field{17, 17, true}},
	{"403", "403", field{1, 30, false}},
	{"410", "417", field{13, 13, true}},
	{"420", "420", field{1, 20, false}},
	{"421", "421", field{4, 12, false}},
	{"422", "422", field{3, 3, true}},
	{"423", "423", field{3, 15, true}},
	{"424", "424", field{3, 3, true}},
	{"425", "425", field{3, 15, true}},
	{"426", "426", field{3, 3, true}},
	{"427", "427", field{1, 3, false}},
	{"4300", "4301", field{1, 35, false}},
	{"4302", "4306", field{1, 70, false}},
	{"4307", "4307", field{2, 2, false}},
	{"4308", "4308", field{1, 30, false}},
	{"4309", "4309", field{20, 20, true}},
	{"4310", "4311", field{1, 35, false}},
	{"4312", "4316", field{1, 70, false}},
	{"4317", "4317", field{2, 2, false}},
	{"4318", "4318", field{1, 20, false}},
	{"4319", "4319", field{1, 30, false}},
	{"4320", "4320", field{1, 35, false}},
	{"4321", "4323", field{1, 1, true}},
	{"4324", "4325", field{10, 10, true}},
	{"4326", "4326", field{6, 6, true}},
	{"4330", "4333", field{6, 7, false}},
	{"7001", "7001", field{13, 13, true}},
	{"7002", "7002", field{1, 30, false}},
	{"7003", "7003", field{10, 10, true}},
	{"7004", "7004", field{1, 4, true}},
	{"7005", "7005", field{1, 12, false}},
	{"7006", "7006", field{6, 6, true}},
	{"7007", "7007", field{6, 12, true}},
	{"7008", "7008", field{1, 3, false}},
	{"7009", "7009", field{1, 10, false}},
	{"7010", "7010", field{1, 2, false}},
	{"7011", "7011", field{6, 10, true}},
	{"7020", "7022", field{1, 20, false}},
	{"7023", "7023", field{1, 30, false}},
	{"7030", "7039", field{4, 30, false}},
	{"7040", "7040", field{4, 4, false}},
	{"7230", "7239", field{3, 30, false}},
	{"7240", "7240", field{1, 20, false}},
	{"7241", "7241", field{2, 2, true}},
	{"7242", "7242", field{1, 25, false}},
	{"8001", "8001", field{14, 14, true}},
	{"8002", "8002", field{1, 20, false}},
	{"8003", "8003", field{14, 30, false}},
	{"8004", "8004", field{1, 30, false}},
	{"8005", "8005", field{6, 6, true}},
	{"8006", "8006", field{18, 18, true}},
	{"8007", "8007", field{1, 34, false}},
	{"8008", "8008", field{8, 12, true}},
	{"8009", "8009", field{1, 50, false}},
	{"8010", "8010", field{1, 30, false}},
	{"8011", "8011", field{1, 12, true}},
	{"8012", "8012", field{1, 20, false}},
	{"8013", "8013", field{1, 25, false}},
	{"8017", "8018", field{18, 18, true}},
	{"8019", "8019", field{1, 10, true}},
	{"8020", "8020", field{1, 25, false}},
	{"8026", "8026", field{18, 18, true}},
	{"8030", "8030", field{1, 90, false}},
	{"8110", "8110", field{1, 70, false}},
	{"8111", "8111", field{4, 4, true}},
	{"8112", "8112", field{1, 70, false}},
	{"8200", "8200", field{1, 70, false}},
}

// NormalGTIN returns the 14-digit form of a GTIN of 8, 12, 13 or 14 digits,
// false when it is none or its check digit is wrong.
func NormalGTIN(s string) (string, bool) {
	gtin := padGTIN(s)
	if gtin == "" || !checkDigit(gtin) {
		return "", false
	}
	return gtin, true
}

func padGTIN(s string) string {
	switch len(s) {
	case 8, 12, 13, 14:
		if digitsOnly(s) {
			return "000000"[:14-len(s)] + s
		}
	}
	return ""
}

// checkDigit reports whether the weights 3, 1, 3, 1… over all 14 digits give a
// multiple of ten. Zeros in front change nothing.
func checkDigit(gtin string) bool {
	sum := 0
	for i := range len(gtin) {
		d := int(gtin[i] - '0')
		if i%2 == 0 {
			d *= 3
		}
		sum += d
	}
	return sum%10 == 0
}

// gs1Date reads YYMMDD; day 00 means the last of the month. GS1 takes the
// century from the clock (a year more than 50 away is in the other century),
// which would make one code mean two things at two times. No pack with a serial
// expired before 2000, so the century is always this one.
func gs1Date(s string) (time.Time, bool) {
	if len(s) != 6 || !digitsOnly(s) {
		return time.Time{}, false
	}
	two := func(i int) int { return int(s[i]-'0')*10 + int(s[i+1]-'0') }
	year, month, day := 2000+two(0), two(2), two(4)
	if month < 1 || month > 12 {
		return time.Time{}, false
	}
	last := time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC)
	switch {
	case day == 0:
		return last, true
	case day > last.Day():
		return time.Time{}, false
	}
	return time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC), true
}

// swallowed reports whether value, a serial or a lot, looks as if its separator
// was lost and the field after it came along. Only fields that e lacks can have
// been swallowed. Two digits alone ("10") turn up in serials by chance, so a
// sign is a whole expiry date or GTIN, or "21" in a lot when no serial is left.
func swallowed(value string, e elements) bool {
	for i := 1; i+2 < len(value); i++ {
		rest := value[i+2:]
		switch value[i : i+2] {
		case "17":
			if e.expiry != "" || len(rest) < 6 {
				continue
			}
			if _, ok := gs1Date(rest[:6]); !ok {
				continue
			}
			if next, _ := findAI(rest[6:]); len(rest) == 6 || next != "" {
				return true
			}
		case "01":
			if len(rest) == 14 {
				if _, ok := NormalGTIN(rest); ok {
					return true
				}
			}
		case "21":
			if e.serial == "" {
				return true
			}
		}
	}
	return false
}

// eanAtEnd reports whether something and then the pack's own EAN is value.
func eanAtEnd(value, gtin string) bool {
	ean := gtin[1:]
	return len(value) > len(ean) && strings.HasSuffix(value, ean)
}

func allSmall(s string) bool {
	small := false
	for i := range len(s) {
		switch {
		case 'A' <= s[i] && s[i] <= 'Z':
			return false
		case 'a' <= s[i] && s[i] <= 'z':
			small = true
		}
	}
	return small
}
