package schema_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"yaosu/schema"
)

const (
	gtin   = "06901234567892"
	serial = "AB12cd-34"
	item   = "01" + gtin + "21" + serial
	gs     = "\x1d"
)

func TestClassify(t *testing.T) {
	type row struct {
		name    string
		raw     string
		drug    string
		scheme  schema.Scheme
		key     string
		product string
	}
	groups := map[string][]row{
		"placeholder": {
			{name: "twenty nines of a hospital system", raw: strings.Repeat("9", 20), drug: "D1", scheme: schema.SchemePlaceholder},
			{name: "twenty zeros", raw: strings.Repeat("0", 20), scheme: schema.SchemePlaceholder},
			{name: "twenty eights, though they look like a cn20 code", raw: strings.Repeat("8", 20), scheme: schema.SchemePlaceholder},
			{name: "eight zeros, though they look like a GTIN-8", raw: "00000000", scheme: schema.SchemePlaceholder},
			{name: "six of one letter", raw: "aaaaaa", scheme: schema.SchemePlaceholder},
			{name: "six of one Chinese character", raw: "无无无无无无", scheme: schema.SchemePlaceholder},
			{name: "five of one digit are too few", raw: "99999", scheme: schema.SchemeInvalid},
			{name: "one letter in two cases is two characters", raw: "aaaAAA", scheme: schema.SchemeInvalid},
			{name: "none in Chinese", raw: "无", scheme: schema.SchemePlaceholder},
			{name: "no code in Chinese", raw: "无码", scheme: schema.SchemePlaceholder},
			{name: "NA", raw: "NA", scheme: schema.SchemePlaceholder},
			{name: "n/a in small letters", raw: "n/a", scheme: schema.SchemePlaceholder},
			{name: "a dash", raw: "-", scheme: schema.SchemePlaceholder},
			{name: "None", raw: "None", scheme: schema.SchemePlaceholder},
			{name: "NULL with blanks", raw: " NULL ", scheme: schema.SchemePlaceholder},
			{name: "nines behind a symbology prefix", raw: "]C199999999999999999999", scheme: schema.SchemePlaceholder},
		},
		"cn20": {
			{name: "a label", raw: "83857930000879766660", drug: "D1", scheme: schema.SchemeCN20, key: "83857930000879766660", product: "8385793"},
			{name: "a label with a line end", raw: "83857930000879766660\r\n", scheme: schema.SchemeCN20, key: "83857930000879766660", product: "8385793"},
			{name: "a label behind a prefix", raw: "]C183857930000879766660", scheme: schema.SchemeCN20, key: "83857930000879766660", product: "8385793"},
			{name: "nineteen digits are a misread", raw: "8385793000087976666", drug: "D1", scheme: schema.SchemeInvalid},
			{name: "twenty-one digits are a misread", raw: "838579300008797666601", drug: "D1", scheme: schema.SchemeInvalid},
			{name: "a blank in the middle", raw: "8385793 0000879766660", drug: "D1", scheme: schema.SchemeInvalid},
			{name: "full-width digits", raw: "８３８５７９３０００００８７９７６６６０", drug: "D1", scheme: schema.SchemeInvalid},
			{name: "a letter O for a zero is no cn20 code", raw: "8385793O000879766660", drug: "D1", scheme: schema.SchemeOwn, key: "D1 8385793O000879766660"},
		},
		"gs1": {
			{name: "GTIN and serial", raw: item, scheme: schema.SchemeGS1, key: item, product: gtin},
			{name: "digits only", raw: "01" + gtin + "2112345678", scheme: schema.SchemeGS1, key: "01" + gtin + "2112345678", product: gtin},
			{name: "order 01 17 10 21 with a separator", raw: "01" + gtin + "1728123110L9" + gs + "21" + serial, scheme: schema.SchemeGS1, key: item, product: gtin},
			{name: "order 01 21 17 10, serial in the middle", raw: item + gs + "1728123110L9", scheme: schema.SchemeGS1, key: item, product: gtin},
			{name: "serial first, GTIN last", raw: "21" + serial + gs + "01" + gtin, scheme: schema.SchemeGS1, key: item, product: gtin},
			{name: "DataMatrix prefix", raw: "]d2" + item, scheme: schema.SchemeGS1, key: item, product: gtin},
			{name: "DataMatrix prefix and FNC1", raw: "]d2" + gs + item, scheme: schema.SchemeGS1, key: item, product: gtin},
			{name: "two prefixes and FNC1", raw: gs + "]C1" + gs + "]Q3" + item + gs, scheme: schema.SchemeGS1, key: item, product: gtin},
			{name: "a separator after a field of fixed length", raw: "01" + gtin + gs + "17281231" + gs + "21" + serial, scheme: schema.SchemeGS1, key: item, product: gtin},
			{name: "brackets", raw: "(01)" + gtin + "(21)" + serial + "(17)281231", scheme: schema.SchemeGS1, key: item, product: gtin},
			{name: "brackets, blanks between", raw: "(17)281231 (01)" + gtin + " (10)L9 (21)" + serial, scheme: schema.SchemeGS1, key: item, product: gtin},
			{name: "brackets behind a prefix", raw: "]d2(01)" + gtin + "(21)" + serial, scheme: schema.SchemeGS1, key: item, product: gtin},
			{name: "a serial with brackets of its own", raw: "(01)" + gtin + "(21)A(x)1", scheme: schema.SchemeGS1, key: "01" + gtin + "21A(x)1", product: gtin},
			{name: "AIs 30, 240, 710, 3103 and 91 as well", raw: "01" + gtin + "3010" + gs + "240X1" + gs + "710123" + gs + "3103000100" + "91Z" + gs + "21" + serial, scheme: schema.SchemeGS1, key: item, product: gtin},
			{name: "serial of 20 characters", raw: "01" + gtin + "21ABCDEFGHIJKLMNOPQRST", scheme: schema.SchemeGS1, key: "01" + gtin + "21ABCDEFGHIJKLMNOPQRST", product: gtin},
			{name: "impossible expiry", raw: "01" + gtin + "1728133121" + serial, scheme: schema.SchemeGS1, key: item, product: gtin},
			{name: "the same GTIN twice", raw: "01" + gtin + "01" + gtin + "21" + serial, scheme: schema.SchemeGS1, key: item, product: gtin},
			{name: "wrong check digit", raw: "010690123456789321" + serial, drug: "D1", scheme: schema.SchemeInvalid},
			{name: "wrong check digit in brackets", raw: "(01)06901234567893(21)" + serial, drug: "D1", scheme: schema.SchemeInvalid},
			{name: "wrong check digit, no serial", raw: "0106901234567893", drug: "D1", scheme: schema.SchemeInvalid},
			{name: "wrong check digit in a link", raw: "https://example.com/01/06901234567893/21/" + serial, drug: "D1", scheme: schema.SchemeInvalid},
			{name: "two different serials", raw: item + gs + "21OTHER", drug: "D1", scheme: schema.SchemeInvalid},
			{name: "a field that is no AI", raw: "01" + gtin + "05XX", drug: "D1", scheme: schema.SchemeOwn, key: "D1 01" + gtin + "05XX"},
			{name: "serial of 21 characters is no element string", raw: "01" + gtin + "21ABCDEFGHIJKLMNOPQRSTU", drug: "D1", scheme: schema.SchemeOwn, key: "D1 01" + gtin + "21ABCDEFGHIJKLMNOPQRSTU"},
			{name: "serial without GTIN", raw: "21" + serial, drug: "D1", scheme: schema.SchemeInvalid},
		},
		"link": {
			{name: "GTIN and serial", raw: "https://id.gs1.org/01/" + gtin + "/21/" + serial, scheme: schema.SchemeGS1, key: item, product: gtin},
			{name: "lot, serial, expiry", raw: "https://id.gs1.org/01/" + gtin + "/10/L9/21/" + serial + "?17=281231", scheme: schema.SchemeGS1, key: item, product: gtin},
			{name: "words, leading path, GTIN-13", raw: "http://example.com/p/x/gtin/6901234567892/ser/" + serial + "/?a=b#c", scheme: schema.SchemeGS1, key: item, product: gtin},
			{name: "capitals of a QR code", raw: "HTTPS://EXAMPLE.COM/01/" + gtin + "/21/AB12", scheme: schema.SchemeGS1, key: "01" + gtin + "21AB12", product: gtin},
			{name: "percent codes", raw: "https://example.com/01/" + gtin + "/21/A%2FB%2b1", scheme: schema.SchemeGS1, key: "01" + gtin + "21A/B+1", product: gtin},
			{name: "a leading path segment 01", raw: "https://example.com/01/x/01/" + gtin + "/21/" + serial, scheme: schema.SchemeGS1, key: item, product: gtin},
			{name: "GTIN-8", raw: "https://example.com/01/96385074/21/A1", scheme: schema.SchemeGS1, key: "010000009638507421A1", product: "00000096385074"},
			{name: "no serial", raw: "https://example.com/01/" + gtin + "/10/L9", drug: "D1", scheme: schema.SchemeProduct, product: gtin},
			{name: "some other address", raw: "https://example.com/q?id=123456789", drug: "D1", scheme: schema.SchemeOwn, key: "D1 https://example.com/q?id=123456789"},
			{name: "some other address, too few digits", raw: "https://example.com/about", drug: "D1", scheme: schema.SchemeInvalid},
		},
		"ma": {
			{name: "serial right after the device", raw: "MA.156.M0.100761.21234561.Sx00008.M220117.L20220117.D20220118.E220130.V220117.C3", scheme: schema.SchemeMA, key: "MA.156.M0.100761.21234561.Sx00008.M220117.L20220117.D20220118.E220130.V220117.C3", product: "MA.156.M0.100761.21234561"},
			{name: "serial after other parts", raw: "MA.156.M0.100761.21234561.M220117.L1.S7", scheme: schema.SchemeMA, key: "MA.156.M0.100761.21234561.M220117.L1.S7", product: "MA.156.M0.100761.21234561"},
			{name: "no serial", raw: "MA.156.M0.100761.21234561.M220117", drug: "D1", scheme: schema.SchemeProduct, product: "MA.156.M0.100761.21234561"},
			{name: "a serial mark without serial", raw: "MA.156.M0.100761.21234561.S", drug: "D1", scheme: schema.SchemeProduct, product: "MA.156.M0.100761.21234561.S"},
			{name: "small letters are not mended", raw: "ma.156.m0.100761.21234561.sx00008", drug: "D1", scheme: schema.SchemeOwn, key: "D1 ma.156.m0.100761.21234561.sx00008"},
			{name: "a blank inside", raw: "MA.156.M0.100761.21234561.S 1", drug: "D1", scheme: schema.SchemeInvalid},
		},
		"product": {
			{name: "EAN-13", raw: "6924561884074", drug: "D1", scheme: schema.SchemeProduct, product: "06924561884074"},
			{name: "EAN-13 with a wrong check digit", raw: "6924561884075", drug: "D1", scheme: schema.SchemeProduct},
			{name: "GTIN-8", raw: "96385074", scheme: schema.SchemeProduct, product: "00000096385074"},
			{name: "UPC-A", raw: "036000291452", scheme: schema.SchemeProduct, product: "00036000291452"},
			{name: "national drug code of 14 digits", raw: "86904879000126", drug: "D1", scheme: schema.SchemeProduct, product: "86904879000126"},
			{name: "14 digits that begin like AI 01", raw: "01234567890123", scheme: schema.SchemeProduct},
			{name: "catalogue code", raw: "XR05CBA198A001010100863", drug: "D1", scheme: schema.SchemeProduct},
			{name: "catalogue code of a herb", raw: "T001700862000000000000X", drug: "D1", scheme: schema.SchemeProduct},
			{name: "GTIN without serial", raw: "01" + gtin + "17281231", drug: "D1", scheme: schema.SchemeProduct, product: gtin},
			{name: "GTIN alone in brackets", raw: "(01)" + gtin, drug: "D1", scheme: schema.SchemeProduct, product: gtin},
		},
		"own": {
			{name: "twenty digits from 9", raw: "91234567890123456789", drug: "D1", scheme: schema.SchemeOwn, key: "D1 91234567890123456789"},
			{name: "twenty digits from 9, no drug", raw: "91234567890123456789", scheme: schema.SchemeOwn},
			{name: "twenty-five digits", raw: "9123456789012345678901234", drug: "D1", scheme: schema.SchemeOwn, key: "D1 9123456789012345678901234"},
			{name: "letters and signs", raw: "~AB/12345678#x", drug: "D1", scheme: schema.SchemeOwn, key: "D1 ~AB/12345678#x"},
			{name: "trimmed before it is compared", raw: " ABCD12345678\n", drug: "D1", scheme: schema.SchemeOwn, key: "D1 ABCD12345678"},
			{name: "eleven characters", raw: "ABC12345678", drug: "D1", scheme: schema.SchemeInvalid},
			{name: "seven digits", raw: "ABCDEF1234567", drug: "D1", scheme: schema.SchemeInvalid},
			{name: "a hundred characters", raw: strings.Repeat("A1", 50), drug: "D1", scheme: schema.SchemeOwn, key: "D1 " + strings.Repeat("A1", 50)},
			{name: "a hundred and one characters", raw: strings.Repeat("A1", 50) + "A", drug: "D1", scheme: schema.SchemeInvalid},
			{name: "a Chinese character inside", raw: "药12345678901234", drug: "D1", scheme: schema.SchemeInvalid},
			{name: "veterinary code of 24 digits", raw: "201707160230012345678901", drug: "D1", scheme: schema.SchemeInvalid},
			{name: "fifteen digits", raw: "912345678901234", drug: "D1", scheme: schema.SchemeInvalid},
		},
		"invalid": {
			{name: "empty", raw: "", drug: "D1", scheme: schema.SchemeInvalid},
			{name: "only noise", raw: " \t\uFEFF\u200B\x1d", drug: "D1", scheme: schema.SchemeInvalid},
			{name: "only a prefix", raw: "]C1", drug: "D1", scheme: schema.SchemeInvalid},
			{name: "bytes that are no text", raw: "\xff\xff\xff\xff\xff\xff\xff", drug: "D1", scheme: schema.SchemeInvalid},
		},
	}
	c := schema.NewClassifier(nil)
	for group, rows := range groups {
		for _, r := range rows {
			t.Run(group+"/"+r.name, func(t *testing.T) {
				got := c.Classify(r.raw, r.drug)
				if got.Scheme != r.scheme || got.Key != r.key || got.Product != r.product || got.Raw != r.raw {
					t.Errorf("Classify(%q, %q)\n got %s key %q product %q raw %q\nwant %s key %q product %q",
						r.raw, r.drug, got.Scheme, got.Key, got.Product, got.Raw, r.scheme, r.key, r.product)
				}
				if got.Item() != (r.key != "") {
					t.Errorf("Item() = %v with key %q", got.Item(), r.key)
				}
			})
		}
	}
}

func TestClassifyReadsLotAndExpiry(t *testing.T) {
	day := func(y, m, d int) time.Time { return time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC) }
	for _, tt := range []struct {
		name, raw string
		lot       string
		expires   time.Time
	}{
		{"a full date", item + gs + "1728123110L9", "L9", day(2028, 12, 31)},
		{"day 00 is the last of February in a leap year", item + gs + "17280200", "", day(2028, 2, 29)},
		{"day 00 is the last of December", item + gs + "17281200", "", day(2028, 12, 31)},
		{"year 99 is in this century", item + gs + "17991231", "", day(2099, 12, 31)},
		{"29 February in a common year is no date", item + gs + "17270229", "", time.Time{}},
		{"in brackets", "(01)" + gtin + "(17)270101(10)A-1(21)X", "A-1", day(2027, 1, 1)},
		{"in the query of a link", "https://example.com/01/" + gtin + "/21/X?17=270101&10=A%2F1", "A/1", day(2027, 1, 1)},
		{"without serial", "01" + gtin + "1727010110A1", "A1", day(2027, 1, 1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := schema.NewClassifier(nil).Classify(tt.raw, "")
			if got.Lot != tt.lot || !got.Expires.Equal(tt.expires) {
				t.Errorf("Classify(%q) got lot %q expires %v, want %q %v", tt.raw, got.Lot, got.Expires, tt.lot, tt.expires)
			}
		})
	}
}

func TestClassifyFlagsScannerFaults(t *testing.T) {
	for _, tt := range []struct {
		name, raw string
		want      []string
	}{
		{"nothing wrong", item + gs + "1728123110L9", nil},
		{"nothing wrong in brackets", "(01)" + gtin + "(21)" + serial, nil},
		{"a plain cn20 code", "83857930000879766660", nil},
		{"blanks around", " 83857930000879766660", []string{schema.FlagTrimmed}},
		{"a prefix", "]d2" + item, []string{schema.FlagTrimmed}},
		{"serial with an expiry date at its end", "01" + gtin + "21AB12345" + "17281231", []string{schema.FlagNoGS}},
		{"serial with expiry and lot at its end", "01" + gtin + "21AB12" + "17281231" + "10L9", []string{schema.FlagNoGS}},
		{"an end that is no date is part of the serial", "01" + gtin + "21AB12" + "17289931", nil},
		{"lot with a serial at its end", "01" + gtin + "17281231" + "10L9" + "21AB12", []string{schema.FlagNoGS}},
		{"serial and more, too long to be one", "01" + gtin + "21ABCDEFGH12345" + "17281231" + "10L9", []string{schema.FlagNoGS}},
		{"EAN at the end of the lot", item + gs + "10L9" + gtin[1:], []string{schema.FlagEANInLot}},
		{"EAN at the end of the lot, too long to be one", item + gs + "10LOT12345" + gtin[1:], []string{schema.FlagEANInLot}},
		{"cut off in the expiry date", item + gs + "172812", []string{schema.FlagTruncated}},
		{"CAPSLOCK on an MA code", "ma.156.m0.100761.21234561.sx00008", []string{schema.FlagLowerCase}},
		{"CAPSLOCK on a catalogue code", "xr05cba198a001010100863", []string{schema.FlagLowerCase}},
		{"CAPSLOCK on a serial", "01" + gtin + "21ab12", []string{schema.FlagLowerCase}},
		{"month 13", item + gs + "17281301", []string{schema.FlagDate}},
		{"wrong check digit", "010690123456789321A", []string{schema.FlagCheckDigit}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := schema.NewClassifier(nil).Classify(tt.raw, "D1").Flags
			if !slices.Equal(got, tt.want) {
				t.Errorf("Classify(%q) got flags %q, want %q", tt.raw, got, tt.want)
			}
		})
	}
}

func TestClassifyTakesPlaceholdersOfTheUser(t *testing.T) {
	c := schema.NewClassifier([]string{" No-Code ", "81234567890123456789", "", "拆零"})
	for raw, want := range map[string]schema.Scheme{
		"no-CODE":              schema.SchemePlaceholder,
		"]C1NO-CODE\n":         schema.SchemePlaceholder,
		"81234567890123456789": schema.SchemePlaceholder,
		"81234567890123456780": schema.SchemeCN20,
		"拆零":                   schema.SchemePlaceholder,
		"N/A":                  schema.SchemePlaceholder,
		"":                     schema.SchemeInvalid,
	} {
		if got := c.Classify(raw, "").Scheme; got != want {
			t.Errorf("Classify(%q) got %s, want %s", raw, got, want)
		}
	}
}

func TestNormalGTIN(t *testing.T) {
	for _, tt := range []struct {
		in, want string
		ok       bool
	}{
		{"04150000021126", "04150000021126", true},
		{"6924561884074", "06924561884074", true},
		{"036000291452", "00036000291452", true},
		{"96385074", "00000096385074", true},
		{"6924561884075", "", false},
		{"692456188407", "", false},
		{"692456188407x", "", false},
		{"", "", false},
	} {
		if got, ok := schema.NormalGTIN(tt.in); got != tt.want || ok != tt.ok {
			t.Errorf("NormalGTIN(%q) = %q, %v, want %q, %v", tt.in, got, ok, tt.want, tt.ok)
		}
	}
}

func TestClassifyOfAPlainCodeAllocatesNothing(t *testing.T) {
	for name, c := range map[string]*schema.Classifier{
		"built-in placeholders only": schema.NewClassifier(nil),
		"with a user's placeholders": schema.NewClassifier([]string{"no-code"}),
	} {
		var sink schema.Code
		if got := testing.AllocsPerRun(100, func() { sink = c.Classify("83857930000879766660", "D1") }); got != 0 {
			t.Errorf("%s: got %v allocations, want 0 (%v)", name, got, sink.Scheme)
		}
	}
}

// pack is what a manufacturer prints; the ways to print it differ.
type pack struct {
	gtin, serial, lot, expiry string
}

const set82 = `!"%&'()*+,-./0123456789:;<=>?ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz`

func drawPack(t *rapid.T) pack {
	digits := rapid.StringMatching(`[0-9]{13}`).Draw(t, "gtin")
	sum := 0
	for i, d := range digits {
		sum += int(d-'0') * (3 - 2*(i%2))
	}
	text := rapid.StringOfN(rapid.RuneFrom([]rune(set82)), 1, 20, -1)
	p := pack{gtin: fmt.Sprintf("%s%d", digits, (10-sum%10)%10), serial: text.Draw(t, "serial")}
	if rapid.Bool().Draw(t, "has lot") {
		p.lot = text.Draw(t, "lot")
	}
	if rapid.Bool().Draw(t, "has expiry") {
		p.expiry = rapid.StringMatching(`[0-9]{2}(0[1-9]|1[0-2])([01][0-9]|2[0-8])`).Draw(t, "expiry")
	}
	return p
}

// render draws one way to write p.
func (p pack) render(t *rapid.T) string {
	fields := [][2]string{{"01", p.gtin}, {"21", p.serial}}
	if p.lot != "" {
		fields = append(fields, [2]string{"10", p.lot})
	}
	if p.expiry != "" {
		fields = append(fields, [2]string{"17", p.expiry})
	}
	if rapid.Bool().Draw(t, "more") {
		fields = append(fields, [2]string{"30", "2"}, [2]string{"3103", "000500"}, [2]string{"715", "x"})
	}
	fields = rapid.Permutation(fields).Draw(t, "order")
	forms := []string{"plain", "link"}
	if !strings.Contains(p.serial+p.lot, "(") {
		forms = append(forms, "brackets")
	}
	var b strings.Builder
	switch rapid.SampledFrom(forms).Draw(t, "form") {
	case "plain":
		always := rapid.Bool().Draw(t, "separator after every field")
		for i, f := range fields {
			fixed := f[0] == "01" || f[0] == "17" || f[0] == "3103"
			b.WriteString(f[0] + f[1])
			if always || !fixed && i < len(fields)-1 {
				b.WriteString(gs)
			}
		}
	case "brackets":
		for _, f := range fields {
			b.WriteString("(" + f[0] + ")" + f[1])
		}
	case "link":
		b.WriteString(rapid.SampledFrom([]string{"https://id.gs1.org", "http://a.cn/x/01/y"}).Draw(t, "host"))
		g := p.gtin
		if strings.HasPrefix(g, "0") && rapid.Bool().Draw(t, "GTIN-13") {
			g = g[1:]
		}
		b.WriteString("/01/" + g)
		if p.lot != "" {
			b.WriteString("/10/" + escape(p.lot))
		}
		b.WriteString("/21/" + escape(p.serial))
		if p.expiry != "" {
			b.WriteString("?linkType=all&17=" + p.expiry)
		}
	}
	return b.String()
}

func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "%%%02X", s[i])
	}
	return b.String()
}

var noise = []string{" ", "\t", "\r\n", "\x00", gs, "\x1e", "\x04", "\u00a0", "\u3000", "\ufeff", "\u200b", "\u0085"}

// drawNoise wraps s in what scanners add.
func drawNoise(t *rapid.T, s string) string {
	blank := rapid.SliceOfN(rapid.SampledFrom(noise), 0, 3)
	prefix := rapid.SampledFrom([]string{"", "]C1", "]d2", "]Q3", "]e0", "]J1", "]d2]C1", "]d2" + gs + " ]E0"})
	return strings.Join(blank.Draw(t, "before"), "") + prefix.Draw(t, "prefix") +
		strings.Join(blank.Draw(t, "between"), "") + s + strings.Join(blank.Draw(t, "after"), "")
}

// However a pack is printed, in whatever order, it is one box.
func TestEveryFormOfAPackHasOneKey(t *testing.T) {
	c := schema.NewClassifier(nil)
	rapid.Check(t, func(t *rapid.T) {
		p := drawPack(t)
		raw := drawNoise(t, p.render(t))
		got := c.Classify(raw, "D1")
		want := "01" + p.gtin + "21" + p.serial
		if got.Scheme != schema.SchemeGS1 || got.Key != want {
			t.Fatalf("Classify(%q) got %s %q, want gs1 %q", raw, got.Scheme, got.Key, want)
		}
		if got.Product != p.gtin || got.Lot != p.lot || got.Expires.IsZero() != (p.expiry == "") {
			t.Fatalf("Classify(%q) got product %q lot %q expires %v, want %+v", raw, got.Product, got.Lot, got.Expires, p)
		}
	})
}

// A damaged GTIN makes no other box out of this one.
func TestNoFormOfAPackWithAWrongCheckDigitIsAnItem(t *testing.T) {
	c := schema.NewClassifier(nil)
	rapid.Check(t, func(t *rapid.T) {
		p := drawPack(t)
		at := rapid.IntRange(0, 13).Draw(t, "digit")
		wrong := '0' + (p.gtin[at]-'0'+byte(rapid.IntRange(1, 9).Draw(t, "off by")))%10
		p.gtin = p.gtin[:at] + string(wrong) + p.gtin[at+1:]
		raw := p.render(t)
		if got := c.Classify(raw, "D1"); got.Scheme != schema.SchemeInvalid || got.Item() {
			t.Fatalf("Classify(%q) got %s %q, want invalid", raw, got.Scheme, got.Key)
		}
	})
}

// Noise around a code of any scheme changes neither scheme nor key.
func TestNoiseChangesNothing(t *testing.T) {
	c := schema.NewClassifier([]string{"no-code"})
	rapid.Check(t, func(t *rapid.T) {
		code := rapid.OneOf(
			rapid.StringMatching(`8[0-9]{19}`),
			rapid.StringMatching(`[0-9]{1,30}`),
			rapid.StringMatching(`[!-~]{0,40}`),
			rapid.StringMatching(`MA\.156\.M0\.[0-9]{6}\.[0-9]{8}(\.[SMLDEVC][0-9a-z]{0,8}){0,3}`),
			rapid.StringMatching(`[XZTC][A-Z0-9]{22}`),
			rapid.SampledFrom([]string{"", "无", "na", "No-Code", "999999"}),
		).Draw(t, "code")
		raw := drawNoise(t, code)
		want, got := c.Classify(code, "D1"), c.Classify(raw, "D1")
		if got.Scheme != want.Scheme || got.Key != want.Key || got.Product != want.Product {
			t.Fatalf("Classify(%q) got %s %q, want %s %q as of %q", raw, got.Scheme, got.Key, want.Scheme, want.Key, code)
		}
	})
}

func FuzzClassify(f *testing.F) {
	for _, s := range []string{
		"83857930000879766660", "99999999999999999999", "无码", item, "]d2" + gs + item + gs + "1728120010L9",
		"(01)" + gtin + "(21)" + serial + "(17)281231", "https://id.gs1.org/01/" + gtin + "/21/A%2F1?17=281200&10=L",
		"MA.156.M0.100761.21234561.Sx00008.M220117", "XR05CBA198A001010100863", "6924561884074", "91234567890123456789",
	} {
		f.Add(s, "D1")
	}
	c := schema.NewClassifier([]string{"no-code"})
	f.Fuzz(func(t *testing.T, raw, drug string) {
		got := c.Classify(raw, drug)
		if got.Raw != raw {
			t.Fatalf("Raw = %q, want %q", got.Raw, raw)
		}
		compared := false
		switch got.Scheme {
		case schema.SchemeCN20, schema.SchemeGS1, schema.SchemeMA:
			compared = true
			again := c.Classify(got.Key, "")
			if again.Scheme != got.Scheme || again.Key != got.Key || again.Product != got.Product {
				t.Fatalf("the key %q of %q classifies as %s %q", got.Key, raw, again.Scheme, again.Key)
			}
		case schema.SchemeOwn:
			compared = drug != ""
		case schema.SchemePlaceholder, schema.SchemeProduct, schema.SchemeInvalid:
		default:
			t.Fatalf("Classify(%q) got scheme %q", raw, got.Scheme)
		}
		if got.Item() != compared {
			t.Fatalf("Classify(%q, %q) got %s with key %q", raw, drug, got.Scheme, got.Key)
		}
		for _, noisy := range []string{" " + raw + "\r\n", gs + raw, raw + gs + "\ufeff"} {
			if again := c.Classify(noisy, drug); again.Scheme != got.Scheme || again.Key != got.Key {
				t.Fatalf("Classify(%q) got %s %q, but %q got %s %q", raw, got.Scheme, got.Key, noisy, again.Scheme, again.Key)
			}
		}
	})
}

func BenchmarkClassify(b *testing.B) {
	c := schema.NewClassifier(nil)
	for name, raw := range map[string]string{
		"cn20":     "83857930000879766660",
		"elements": "01" + gtin + "1728123110LX9" + gs + "216L9LPGC6NGBC",
		"brackets": "(01)" + gtin + "(21)UUHK9PD7UD8S(17)281231",
		"own":      "91234567890123456789",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c.Classify(raw, "D1")
			}
		})
	}
}
