package schema

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Scheme names the form of a code. Order matters: Classify tries them so.
type Scheme string

// The schemes, in the order they are tried and of the table's Enum8 (1 to 7).
// SchemeNone (0) is for events that carry no code.
const (
	SchemePlaceholder Scheme = "placeholder"
	SchemeCN20        Scheme = "cn20"
	SchemeGS1         Scheme = "gs1"
	SchemeMA          Scheme = "ma"
	SchemeProduct     Scheme = "product"
	SchemeOwn         Scheme = "own"
	SchemeInvalid     Scheme = "invalid"
	SchemeNone        Scheme = ""
)

// Code is what Classify makes of a string a scanner read.
type Code struct {
	Raw     string
	Scheme  Scheme
	Key     string    // what to compare; empty when the code is never compared
	Product string    // 7 digits, a GTIN-14, or an MA device identifier; empty when unknown
	Lot     string    // GS1 AI 10
	Expires time.Time // GS1 AI 17, a date at midnight UTC; zero means absent
	Flags   []string  // scanner faults seen, see the Flag constants
}

// Flags of a Code: signs that a scanner or a keyboard in between did harm. A
// flag accuses the reading, not the shop, and never changes the key: a key
// mended by a guess would join two boxes that are not one.
const (
	FlagTrimmed    = "trimmed"           // blanks, controls or a symbology prefix stood around the code
	FlagNoGS       = "missing_separator" // a serial or lot seems to have swallowed the field after it
	FlagTruncated  = "truncated"         // the string ends inside a field of fixed length
	FlagLowerCase  = "lower_case"        // small letters where the scheme has capitals: CAPSLOCK
	FlagEANInLot   = "ean_in_lot"        // the pack's own EAN hangs at the end of its lot or serial
	FlagDate       = "bad_date"          // AI 17 is no date; the code counts, without expiry
	FlagCheckDigit = "bad_check_digit"   // an element string or link whose GTIN fails: invalid
)

// Item reports whether the code names one box, so that it may be compared.
func (c Code) Item() bool { return c.Key != "" }

// Classifier tells what a scanned string is. The zero value knows the built-in
// placeholders only. It is safe for use by many goroutines: nothing in it
// changes after NewClassifier.
type Classifier struct {
	extra map[string]struct{} // trimmed, in lower case
}

// NewClassifier returns a Classifier that also takes each of placeholders, in
// any case, for "no code here".
func NewClassifier(placeholders []string) *Classifier {
	c := &Classifier{extra: make(map[string]struct{}, len(placeholders))}
	for _, p := range placeholders {
		if p = trim(p); p != "" {
			c.extra[strings.ToLower(p)] = struct{}{}
		}
	}
	return c
}

// Classify says what raw is. drug is the drug billed on the same line; it makes
// a manufacturer's own code comparable, as two manufacturers may use one number.
// Every string gets a scheme. A plain cn20 code costs no allocation: its Key
// and Product are parts of raw.
func (c *Classifier) Classify(raw, drug string) Code {
	if len(raw) == 20 && raw[0] == '8' && digitsOnly(raw) && !c.placeholder(raw) {
		return Code{Raw: raw, Scheme: SchemeCN20, Key: raw, Product: raw[:7]} // nearly all are that
	}
	code := Code{Raw: raw, Scheme: SchemeInvalid}
	s := trim(raw)
	if len(s) != len(raw) {
		code.flag(FlagTrimmed)
	}
	switch {
	case s == "":
	case c.placeholder(s):
		code.Scheme = SchemePlaceholder
	case len(s) == 20 && s[0] == '8' && digitsOnly(s):
		code.Scheme, code.Key, code.Product = SchemeCN20, s, s[:7]
	case code.readGS1(s):
	case code.readMA(s):
	case code.readProduct(s):
	case own(s):
		code.Scheme = SchemeOwn
		if drug != "" {
			code.Key = drug + " " + s
		}
	}
	return code
}

func (c *Code) flag(f string) {
	for _, have := range c.Flags {
		if have == f {
			return
		}
	}
	c.Flags = append(c.Flags, f)
}

// trim takes off what scanners and people add around a code. Prefix and blanks
// may alternate: FNC1 in first place comes as GS after the prefix, and two
// scanners in a row give two prefixes.
func trim(s string) string {
	s = strings.TrimFunc(s, noise)
	for len(s) >= 3 && s[0] == ']' && isLetter(s[1]) && isDigit(s[2]) {
		s = strings.TrimLeftFunc(s[3:], noise)
	}
	return s
}

// noise is what carries no meaning at the ends of a code: white space, controls
// (GS among them), and format characters such as a byte order mark.
func noise(r rune) bool {
	if r < utf8.RuneSelf {
		return r <= ' ' || r == 0x7F
	}
	return unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Cf, r)
}

func (c *Classifier) placeholder(s string) bool {
	if repeated(s) {
		return true
	}
	if len(s) <= len("无码") {
		switch strings.ToLower(s) {
		case "无", "无码", "na", "n/a", "-", "none", "null":
			return true
		}
	}
	if len(c.extra) == 0 {
		return false
	}
	_, known := c.extra[strings.ToLower(s)]
	return known
}

// repeated reports whether s is one character six times or more.
func repeated(s string) bool {
	const least = 6
	if len(s) < least {
		return false
	}
	first, width := utf8.DecodeRuneInString(s)
	if first == utf8.RuneError && width == 1 {
		return false // not UTF-8
	}
	if len(s)%width != 0 || len(s)/width < least {
		return false
	}
	// A string equal to itself moved by one character is all one character.
	return s[width:] == s[:len(s)-width]
}

const maPrefix = "MA.156."

// readMA takes s when it is an IDcode: a device identifier of up to five parts
// split by dots, then marked parts, S the serial among them. The third part
// ("M0") is a class and may begin with any letter, so marks count after it.
func (c *Code) readMA(s string) bool {
	if len(s) <= len(maPrefix) || !strings.EqualFold(s[:len(maPrefix)], maPrefix) || !printable(s) {
		return false
	}
	if s[:len(maPrefix)] != maPrefix {
		c.flag(FlagLowerCase)
		return false
	}
	const classPart, identifierParts = 2, 5
	c.Scheme, c.Product = SchemeProduct, s
	for part, at := classPart, len(maPrefix); at <= len(s); part++ {
		end := len(s)
		if dot := strings.IndexByte(s[at:], '.'); dot >= 0 {
			end = at + dot
		}
		if part > classPart && end-at >= 2 {
			serial := s[at] == 'S'
			mark := serial || part >= identifierParts && strings.IndexByte("MLDEVC", s[at]) >= 0
			if mark && c.Product == s {
				c.Product = s[:at-1]
			}
			if serial {
				c.Scheme, c.Key = SchemeMA, s
				return true
			}
		}
		at = end + 1
	}
	return true
}

// readProduct takes s when it names a product and no box: a bar code of the
// shelf, a national drug code (14 digits), a catalogue code of the fund.
func (c *Code) readProduct(s string) bool {
	switch len(s) {
	case 8, 12, 13, 14:
		if !digitsOnly(s) {
			return false
		}
		c.Product, _ = NormalGTIN(s)
		c.Scheme = SchemeProduct
		return true
	case 23:
		small := false
		for i := range len(s) {
			if !isDigit(s[i]) && !isLetter(s[i]) {
				return false
			}
			small = small || 'a' <= s[i] && s[i] <= 'z'
		}
		if strings.IndexByte("XZTCxztc", s[0]) < 0 {
			return false
		}
		if small {
			c.flag(FlagLowerCase)
		}
		if s[0] >= 'a' {
			return false
		}
		c.Scheme = SchemeProduct
		return true
	}
	return false
}

// own reports whether s may be a manufacturer's own item code. Digits alone of
// 15 to 19 and 21 to 24 are misreads of longer codes and veterinary codes.
func own(s string) bool {
	if len(s) < 12 || len(s) > 100 || !printable(s) {
		return false
	}
	digits := 0
	for i := range len(s) {
		if isDigit(s[i]) {
			digits++
		}
	}
	if digits == len(s) && (15 <= digits && digits <= 19 || 21 <= digits && digits <= 24) {
		return false
	}
	return digits >= 8
}

func isDigit(b byte) bool { return '0' <= b && b <= '9' }

func isLetter(b byte) bool { return 'A' <= b && b <= 'Z' || 'a' <= b && b <= 'z' }

func digitsOnly(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return s != ""
}

// printable reports whether s is ASCII one can see, so without blanks.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
