package export_test

import (
	"archive/zip"
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/file"
	pq "github.com/apache/arrow/go/v17/parquet/schema"
	"github.com/xuri/excelize/v2"

	"yaosu/detect/export"
	"yaosu/schema"
)

// around is what a workbook of list() shows beside it.
func around() export.Around {
	return export.Around{
		Titles: titles, Names: names,
		Types:   map[string]string{"P1": "hospital"},
		Regions: map[string]string{"530927": "沧源佤族自治县"},
		Rules: map[string]export.RuleText{"cloned_code": {
			Looks: "参数:\n\n- `clone_days`(默认 3):超过 `clone_days` 天归 resold_code。\n\n同一个码在很短\n时间里分别结算。", Check: "1. **先控货**:两家机构各自封存,\n   拍下批号。\n2. 查发票。",
		}},
		SeverityRule: "高于一切",
		About:        export.About{Made: at("2026-03-01 10:00:00"), By: "王检查员", Filter: "严重程度:高"},
		Evidence: evidence(func(s *schema.Suspect) []export.Line {
			var lines []export.Line
			for i, event := range s.Events {
				org, id, _ := strings.Cut(event, "/")
				lines = append(lines, export.Line{
					Time: s.FirstTime.Add(time.Duration(i) * time.Hour), Sent: s.FirstTime.Add(30 * time.Hour), Org: org, Region: "530927", Kind: "sale",
					Code: s.EntityID, Scheme: "cn20", Product: "8191961", ProductName: "布洛芬片", ProductDrug: "XN03", Drug: "XN02", DrugName: "阿莫西林胶囊",
					Lot: "L7", Expires: "2027-05-31", Quantity: 0.5, Split: true, Price: 12.5, Paid: 9.8, Days: 7, Pay: "insured", Person: s.Persons[0],
					Credential: "ecard", Setting: "pharmacy", Rx: "R1", Doctor: "李医生", Pharmacist: "赵药师", Operator: "op1", Doc: "D1", Settlement: "00123", EventID: id, Device: "POS1",
				})
			}
			return lines
		}),
	}
}

// evidence gives each suspect of a list its lines.
func evidence(of func(*schema.Suspect) []export.Line) func([]schema.Suspect, func(*schema.Suspect, []export.Line) error) error {
	return func(list []schema.Suspect, each func(*schema.Suspect, []export.Line) error) error {
		for i := range list {
			if err := each(&list[i], of(&list[i])); err != nil {
				return err
			}
		}
		return nil
	}
}

func workbook(t *testing.T, list []schema.Suspect, a export.Around) *excelize.File {
	t.Helper()
	var out bytes.Buffer
	if err := export.Write(&out, "xlsx", list, a); err != nil {
		t.Fatal(err)
	}
	f, err := excelize.OpenReader(bytes.NewReader(out.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// cells are the rows of a sheet, each by its heading.
func cells(t *testing.T, f *excelize.File, sheet string) []map[string]string {
	t.Helper()
	rows, err := f.GetRows(sheet)
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]string
	for _, row := range rows[1:] {
		m := map[string]string{}
		for i, value := range row {
			m[rows[0][i]] = value
		}
		all = append(all, m)
	}
	return all
}

func TestTheWorkbookTellsAnInspectorWhatToDo(t *testing.T) {
	own := list()
	own[0].Parameters = `{"clone_days":5}`
	f := workbook(t, own, around())
	if got, want := f.GetSheetList(), []string{"线索", "证据", "机构汇总", "说明"}; !slices.Equal(got, want) {
		t.Fatalf("got sheets %v, want %v", got, want)
	}
	suspects := cells(t, f, "线索")
	if len(suspects) != 4 {
		t.Fatalf("got %d suspects, want 4", len(suspects))
	}
	for heading, want := range map[string]string{
		"序号": "1", "线索编号": "s-clone", "严重程度": "高", "规则": "疑似假药(克隆码)", "状态": "待核", "对象": "追溯码", "对象名称或编号": "81919614060158519545",
		"涉及机构及角色":         "沧源县第一人民医院门诊药房(P1):首次售出\n银川市兴庆区好药师大药房连锁有限公司第二十三分店(P2):再次售出",
		"地区(首个为最近发生地)":    "640104\n沧源佤族自治县(530927)",
		"先查什么(全部步骤见“说明”)": "先控货:两家机构各自封存,拍下批号。",
		"最早时间":            "2026-02-01 09:00:00", "最近时间": "2026-02-03 10:30:15", "最近日期": "2026-02-03", "疑似损失(元)": "1,234.50", "涉及金额(元,不是损失)": "",
		"证据事件数": "2", "规则编号": "cloned_code", "承办人": "", "核查结论": "", "备注": "",
	} {
		if got := suspects[0][heading]; got != want {
			t.Errorf("线索, %s: got %q, want %q", heading, got, want)
		}
	}
	lines := cells(t, f, "证据")
	if len(lines) != 2 {
		t.Fatalf("got %d lines of evidence, want 2", len(lines))
	}
	for heading, want := range map[string]string{
		"线索编号": "s-clone", "时间": "2026-02-01 10:00:00", "机构编号": "P2", "机构名称": names["P2"], "地区": "沧源佤族自治县(530927)", "角色": "再次售出", "业务": "销售",
		"追溯码": "81919614060158519545", "码的类别": "追溯码", "结算的药品": "阿莫西林胶囊", "结算的药品编码": "XN02", "码上的药品": "布洛芬片\n(与结算的不是一种)", "药品标识码": "8191961",
		"批号": "L7", "有效期至": "2027-05-31", "数量(本码)": "0.5", "拆零": "是", "单价(元)": "12.50", "基金支付(元,本码)": "9.80", "金额依据": "实付", "支付": "医保",
		"参保人(假名)": testKey.Pseudonym(number), "结算号": "00123", "事件号": "a;b\\c", "终端": "POS1", "凭证": "电子凭证", "场景": "药店", "处方号": "R1", "医师": "李医生",
		"药师": "赵药师", "操作员": "op1", "用药天数": "7", "票据号、随货单号": "D1", "上传时间": "2026-02-02 15:00:00",
	} {
		if got := lines[1][heading]; got != want {
			t.Errorf("证据, %s: got %q, want %q", heading, got, want)
		}
	}
	orgs := cells(t, f, "机构汇总")
	for heading, want := range map[string]string{
		"机构编号": "P1", "机构名称": names["P1"], "类型": "医院", "地区": "沧源佤族自治县(530927)", "线索数": "2", "严重程度高": "2", "中": "0", "低": "0",
		"涉及规则及线索数": "疑似假药(克隆码) 1\n疑似回流药 1", "本机构经手的追溯码数": "1",
	} {
		if got := orgs[0][heading]; got != want {
			t.Errorf("机构汇总, %s: got %q, want %q", heading, got, want)
		}
	}
	about := ""
	for _, row := range cells(t, f, "说明") {
		about += row["项目"] + ":" + row["内容"] + "\n"
	}
	for _, want := range []string{"线索不是结论", "王检查员", "严重程度:高", "2026-03-01 10:00:00", "高于一切", "假名", "同一个码在很短时间里分别结算。", "2. 查发票。", "· 现为 5(默认 3):超过 5 天归“疑似回流药”。",
		"给管理员:以下命令", "yaosu review 线索编号", "先后次序:先按严重程度"} {
		if !strings.Contains(about, want) {
			t.Errorf("说明 has no %q:\n%s", want, about)
		}
	}
}

func TestCodesStayTextAndDatesAreDates(t *testing.T) {
	odd := list()[:1]
	odd[0].EntityID, odd[0].Reason = "=cmd|'/c calc'!A1", "+1"
	f := workbook(t, odd, around())
	for heading, c := range map[string]struct {
		want  excelize.CellType
		value string
	}{
		"对象名称或编号": {excelize.CellTypeInlineString, "=cmd|'/c calc'!A1"},
		"说明":      {excelize.CellTypeInlineString, "+1"},
		"线索编号":    {excelize.CellTypeInlineString, "s-clone"},
		"最早时间":    {excelize.CellTypeUnset, ""},
		"疑似损失(元)": {excelize.CellTypeUnset, ""},
	} {
		rows, err := f.GetRows("线索")
		if err != nil {
			t.Fatal(err)
		}
		at, err := excelize.CoordinatesToCellName(slices.Index(rows[0], heading)+1, 2)
		if err != nil {
			t.Fatal(err)
		}
		kind, err := f.GetCellType("线索", at)
		if err != nil || kind != c.want {
			t.Errorf("%s: got type %v, %v, want %v", heading, kind, err, c.want)
		}
		formula, err := f.GetCellFormula("线索", at)
		if err != nil || formula != "" {
			t.Errorf("%s: got formula %q, %v, want none", heading, formula, err)
		}
		if got, _ := f.GetCellValue("线索", at); c.value != "" && got != c.value {
			t.Errorf("%s: got %q, want %q", heading, got, c.value)
		}
	}
	for _, sheet := range f.GetSheetList() {
		panes, err := f.GetPanes(sheet)
		if err != nil || !panes.Freeze || panes.YSplit != 1 {
			t.Errorf("%s: the heading is not frozen: %+v, %v", sheet, panes, err)
		}
		tables, err := f.GetTables(sheet)
		if err != nil || len(tables) != 1 {
			t.Errorf("%s: got %d tables with filters, %v, want 1", sheet, len(tables), err)
		}
	}
	// A serial number of Excel: days since 1899-12-30, by the clock on the wall.
	raw, err := f.GetCellValue("线索", "T2", excelize.Options{RawCellValue: true})
	if want := "46054.375"; err != nil || raw != want {
		t.Errorf("2026-02-01 09:00 in Shanghai: got %s, %v, want %s", raw, err, want)
	}
}

func TestWhatComesFromOutsideBreaksNoWorkbook(t *testing.T) {
	odd := list()[:1]
	odd[0].Reason = "a\x00b\x1dc\r\nd\xffe\ufffff_x0041_<&>"
	odd[0].EntityID = strings.Repeat("码", 40_000)
	odd[0].Orgs = []string{"\x1b[2J", strings.Repeat("😀", 20_000)}
	odd[0].Roles = []string{"never_heard_of"}
	f := workbook(t, odd, around())
	row := cells(t, f, "线索")[0]
	if got, want := row["说明"], "a·b·c·\nd·e·f_x0041_<&>"; got != want {
		t.Errorf("reason: got %q, want %q", got, want)
	}
	if got := row["对象名称或编号"]; len([]rune(got)) != 32_767 || !strings.HasSuffix(got, "…(过长,已截断)") {
		t.Errorf("a long cell: got %d characters that end in %q, want 32767 and a mark", len([]rune(got)), got[len(got)-30:])
	}
	if got := row["涉及机构及角色"]; !strings.Contains(got, "·[2J:never_heard_of") {
		t.Errorf("a role without a word is shown as it is: got %.60q", got)
	}
}

func TestASheetThatIsFullGoesOnInAnother(t *testing.T) {
	a := around()
	a.RowsPerSheet = 3
	f := workbook(t, list(), a)
	if got, want := f.GetSheetList()[:7], []string{"线索", "线索2", "证据", "机构汇总", "机构汇总2", "机构汇总3", "说明"}; !slices.Equal(got, want) {
		t.Errorf("got sheets %v, want %v first", got, want)
	}
	var ids []string
	for _, sheet := range []string{"线索", "线索2"} {
		for _, row := range cells(t, f, sheet) {
			ids = append(ids, row["线索编号"])
		}
	}
	if want := "s-clone s-resold s-travel s-burst"; strings.Join(ids, " ") != want {
		t.Errorf("got %v, want %s", ids, want)
	}
}

func TestAnEmptyListIsAWorkbookToo(t *testing.T) {
	f := workbook(t, nil, export.Around{})
	if rows := cells(t, f, "线索"); len(rows) != 1 || rows[0]["序号"] != "没有内容" {
		t.Errorf("got %v, want one row that says so", rows)
	}
}

// Excel refuses a file that is no well-formed XML; excelize forgives more.
func TestEveryPartOfTheWorkbookIsWellFormed(t *testing.T) {
	var out bytes.Buffer
	if err := export.Write(&out, "xlsx", list(), around()); err != nil {
		t.Fatal(err)
	}
	archive, err := zip.NewReader(bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range archive.File {
		r, err := part.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := wellFormed(text); err != nil {
			t.Errorf("%s: %v", part.Name, err)
		}
	}
}

func wellFormed(text []byte) error {
	decoder := xml.NewDecoder(bytes.NewReader(text))
	for {
		if _, err := decoder.Token(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func TestParquetCarriesWhatWasWritten(t *testing.T) {
	all := list()
	all[0].Reason = "no UTF-8: \xff"
	data := []byte(write(t, "parquet", all))
	r, err := file.NewParquetReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.NumRows() != 4 {
		t.Fatalf("got %d rows, want 4", r.NumRows())
	}
	names := r.MetaData().Schema.Root()
	for i, want := range []string{"suspect_id", "detector", "detector_version", "severity", "entity_kind", "entity_id", "period", "regions", "score",
		"first_time", "last_time", "amount", "events", "codes", "orgs", "roles", "persons", "reason", "parameters", "status", "opened_at", "updated_at", "superseded_by", "reopened"} {
		if got := names.Field(i).Name(); got != want {
			t.Errorf("column %d: got %s, want %s", i, got, want)
		}
	}
	column := func(i int) file.ColumnChunkReader {
		c, err := r.RowGroup(0).Column(i)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	texts := func(i, n int) (values []string, repeated []int16) {
		values, repeated = make([]string, 0, n), make([]int16, n)
		raw, defined := make([]parquet.ByteArray, n), make([]int16, n)
		total, read, err := column(i).(*file.ByteArrayColumnChunkReader).ReadBatch(int64(n), raw, defined, repeated)
		if err != nil || int(total) != n {
			t.Fatalf("column %d: got %d levels, %v, want %d", i, total, err, n)
		}
		for _, v := range raw[:read] {
			values = append(values, string(v))
		}
		return values, repeated
	}
	if got, _ := texts(0, 4); !slices.Equal(got, []string{"s-clone", "s-resold", "s-travel", "s-burst"}) {
		t.Errorf("ids: got %v", got)
	}
	if got, _ := texts(17, 4); got[0] != "no UTF-8: \ufffd" {
		t.Errorf("a reason that is no UTF-8: got %q", got[0])
	}
	// Two events, then three lists without any.
	got, repeated := texts(12, 5)
	if !slices.Equal(got, []string{"P1/E1", "P2/a;b\\c"}) || !slices.Equal(repeated, []int16{0, 1, 0, 0, 0}) {
		t.Errorf("events: got %q with levels %v, want two in the first list and none in the others", got, repeated)
	}
	if got := r.MetaData().Schema.Column(9).LogicalType(); !got.Equals(pq.NewTimestampLogicalType(true, pq.TimeUnitMillis)) {
		t.Errorf("first_time is a %v, want a moment in UTC", got)
	}
	times := make([]int64, 4)
	if _, _, err := column(9).(*file.Int64ColumnChunkReader).ReadBatch(4, times, nil, nil); err != nil || times[0] != at("2026-02-01 09:00:00").UnixMilli() {
		t.Errorf("first_time: got %d, %v, want %d", times[0], err, at("2026-02-01 09:00:00").UnixMilli())
	}
}

func TestManyRowGroups(t *testing.T) {
	many := slices.Repeat(list(), 5000)
	for i := range many {
		many[i].ID = fmt.Sprint("s", i)
	}
	r, err := file.NewParquetReader(bytes.NewReader([]byte(write(t, "parquet", many))))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.NumRows() != 20_000 || r.NumRowGroups() < 2 {
		t.Errorf("got %d rows in %d groups, want 20000 in more than one", r.NumRows(), r.NumRowGroups())
	}
}

// box is a line about a box: a sale that the fund paid for, unless it says otherwise.
func box(org, event, code string, day int, paid float64, change ...func(*export.Line)) export.Line {
	l := export.Line{
		Time: at("2026-02-01 09:00:00").AddDate(0, 0, day-1), Org: org, Region: "530927", EventID: event, Kind: "sale", Code: code, Scheme: "cn20", Pay: "insured",
		Quantity: 1, Price: paid, Paid: paid, Settlement: "S-" + event,
	}
	for _, c := range change {
		c(&l)
	}
	return l
}

// column is a column of a sheet, one cell a line.
func column(rows []map[string]string, heading string) string {
	var all []string
	for _, row := range rows {
		all = append(all, row[heading])
	}
	return strings.Join(all, "|")
}

// about is what the page 说明 says of one thing.
func about(t *testing.T, f *excelize.File, of string) string {
	t.Helper()
	for _, row := range cells(t, f, "说明") {
		if row["项目"] == of {
			return row["内容"]
		}
	}
	t.Fatalf("说明 says nothing of %s", of)
	return ""
}

func TestWhatTheFundPaidIsToldFromWhatWasReckoned(t *testing.T) {
	reckoned := func(l *export.Line) { l.Reckoned = true }
	one := []schema.Suspect{{ID: "s", Detector: "late_reversal", Severity: "high", EntityKind: "org", EntityID: "A", Orgs: []string{"A"}, Roles: []string{"sold"}}}
	f := workbook(t, one, export.Around{Evidence: evidence(func(*schema.Suspect) []export.Line {
		return []export.Line{
			box("A", "1", "c1", 1, 10),
			box("A", "2", "c1", 2, 11, reckoned),
			box("A", "3", "c1", 3, 12, func(l *export.Line) { l.Pay = "self" }),
			box("A", "4", "c1", 4, 13, func(l *export.Line) { l.Kind = "purchase"; l.Supplier = "某医药公司" }),
			box("A", "5", "c1", 5, 14, func(l *export.Line) { l.Kind = "sale_return"; l.Reverses = "1" }),
			box("A", "6", "", 6, 0, func(l *export.Line) { l.Kind, l.Scheme, l.Settlement, l.Pay = "void", "", "S-2", "" }),
			{Org: "A", EventID: "7"},
			box("A", "8", "XN02 OWN-12345678", 7, 0, reckoned, func(l *export.Line) { l.Scheme, l.Drug = "own", "XN02" }),
			box("A", "9", "c9", 8, 1, func(l *export.Line) { l.Drug, l.ProductDrug, l.ProductName = "XN02", "XN02", "阿莫西林胶囊" }),
		}
	})})
	rows := cells(t, f, "证据")
	for heading, want := range map[string]string{
		"基金支付(元,本码)": "10.00|11.00|||-14.00||||1.00",
		"金额依据":       "实付|单价×数量|||退回|||没有上传|实付",
		"支付":         "医保|医保|自费|||||医保|医保",
		"供应商":        "|||某医药公司|||||",
		"被冲销的单据":     "||||事件 1\n结算号 S-1|结算号 S-2|||",
		"业务":         "销售|销售|销售|采购|销售退货|作废|明细已不在库|销售|销售",
		"数量(本码)":     "1|1|1|1|1|||1|1",
		"追溯码":        "c1|c1|c1|c1|c1|||OWN-12345678|c9",
		"结算的药品":      "|||||||XN02|阿莫西林胶囊",
	} {
		if got := column(rows, heading); got != want {
			t.Errorf("%s: got %q, want %q", heading, got, want)
		}
	}
}

func TestWhatStandsInThePlaceOfACodeIsNamed(t *testing.T) {
	var lines []export.Line
	for i, scheme := range []string{"cn20", "gs1", "ma", "own", "product", "placeholder", "invalid", ""} {
		lines = append(lines, box("A", strconv.Itoa(i), "c", i+1, 1, func(l *export.Line) { l.Scheme = scheme }))
	}
	one := []schema.Suspect{{ID: "s", Detector: "unscanned_share", Severity: "low", EntityKind: "org", EntityID: "A"}}
	f := workbook(t, one, export.Around{Evidence: evidence(func(*schema.Suspect) []export.Line { return lines })})
	if got, want := column(cells(t, f, "证据"), "码的类别"), "追溯码|追溯码(GS1)|追溯码(MA)|厂家自编码|商品条码|占位符|无法识别|无码"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestMoneyIsCountedOnce: two boxes were sold at A and again at B, which a ring and
// two of its boxes say; one of them is in a ghost sale of A too. Cards were swiped
// for one of the sales, and somebody had his money back.
func TestMoneyIsCountedOnce(t *testing.T) {
	// The amount of a suspect has cents, what was paid for a line more.
	first, again := box("A", "a1", "c1", 1, 100.0041), box("B", "b1", "c1", 10, 90, func(l *export.Line) { l.Reckoned = true })
	other, twice := box("A", "a2", "c2", 2, 50), box("B", "b2", "c2", 11, 40)
	refund := box("A", "r", "c3", 3, 30)
	evidenceOf := map[string][]export.Line{
		"ring": {first, other, again, twice}, "box1": {first, again}, "box2": {other, twice}, "ghost": {first},
		"burst": {first, other}, "cycle": {refund, box("A", "back", "c3", 4, 30, func(l *export.Line) { l.Kind = "sale_return" })}, "gone": {{Org: "C", EventID: "x"}},
	}
	pair := func(id, detector, severity string, amount float64, orgs ...string) schema.Suspect {
		s := schema.Suspect{ID: id, Detector: detector, Severity: severity, EntityKind: "code", Amount: amount, Orgs: orgs, LastTime: at("2026-02-11 09:00:00")}
		if len(orgs) == 2 {
			s.Roles = []string{"sold_first", "sold_again"}
		}
		for _, l := range evidenceOf[id] {
			s.Codes = append(s.Codes, l.Code)
		}
		return s
	}
	list := []schema.Suspect{
		pair("ring", "resale_ring", "high", 130, "A", "B"), pair("box1", "resold_code", "high", 90, "A", "B"), pair("box2", "resold_code", "high", 40, "A", "B"),
		pair("ghost", "ghost_sale", "medium", 100, "A"), pair("burst", "card_burst", "medium", 150, "A"), pair("cycle", "settle_return_cycle", "medium", 30, "A"), pair("gone", "expired_sale", "low", 7, "C"),
	}
	f := workbook(t, list, export.Around{
		Rules: map[string]export.RuleText{
			"resale_ring": {Joins: export.JoinsOrgs}, "card_burst": {Amount: export.AmountTurnover}, "settle_return_cycle": {Amount: export.AmountRefunded},
		},
		Evidence: evidence(func(s *schema.Suspect) []export.Line { return evidenceOf[s.ID] }),
	})
	// 90 and 40 that were paid again, 100 for a box that never left, 7 of which nothing
	// is left.
	for of, want := range map[string][]string{
		"疑似损失": {"237.00 元", "只计一次", "其中 90.00 元没有上传基金支付额"}, "涉及金额": {"150.00 元", "不是损失"}, "已退货金额": {"30.00 元", "不计入追回"},
	} {
		for _, words := range want {
			if got := about(t, f, of); !strings.Contains(got, words) {
				t.Errorf("%s: got %q, want %q in it", of, got, words)
			}
		}
	}
	suspects := cells(t, f, "线索")
	for heading, want := range map[string]string{
		"线索编号": "ring|box1|box2|ghost|burst|cycle|gone", "疑似损失(元)": "130.00|90.00|40.00|100.00|||7.00", "涉及金额(元,不是损失)": "||||150.00|30.00|",
	} {
		if got := column(suspects, heading); got != want {
			t.Errorf("线索, %s: got %q, want %q", heading, got, want)
		}
	}
	for i, want := range []string{"不等于损失", "都已退货"} {
		if got := suspects[4+i]["提示"]; !strings.Contains(got, want) {
			t.Errorf("提示 of %s: got %q, want %q in it", suspects[4+i]["线索编号"], got, want)
		}
	}
	lines := cells(t, f, "证据")
	if got, want := column(lines, "计入合计(元,每笔每盒只计一次)"), "||90.00|40.00|||||100.00|100.00|50.00|30.00||"; got != want {
		t.Errorf("计入合计: got %q, want %q", got, want)
	}
	if got, want := column(lines, "前面已列"), "||||是|是|是|是|是|是|是|||"; got != want {
		t.Errorf("前面已列: got %q, want %q", got, want)
	}
	orgs := cells(t, f, "机构汇总")
	for heading, want := range map[string]string{
		"机构编号": "A|B|C", "线索数": "6|3|1", "本机构经手的追溯码数": "3|2|0",
		"疑似损失(元,付给本机构的,每笔每盒只计一次)": "100.00|130.00|0.00", "其中按单价×数量估算(元)": "0.00|90.00|0.00", "涉及金额(元,不是损失,每笔只计一次)": "150.00|0.00|0.00", "已退货金额(元)": "30.00|0.00|0.00",
	} {
		if got := column(orgs, heading); got != want {
			t.Errorf("机构汇总, %s: got %q, want %q", heading, got, want)
		}
	}
}

// What can be secured comes first, then the larger loss; turnover is no loss; the
// boxes of a ring are under it.
func TestTheOrderIsThatOfTheWork(t *testing.T) {
	suspect := func(id, detector, severity string, amount float64, reason string, codes ...string) schema.Suspect {
		return schema.Suspect{ID: id, Detector: detector, Severity: severity, EntityKind: "code", Amount: amount, Reason: reason, Codes: codes, LastTime: at("2026-02-11 09:00:00")}
	}
	later := suspect("later", "expired_sale", "high", 5, "", "c8")
	later.LastTime = at("2026-02-12 09:00:00")
	list := []schema.Suspect{
		suspect("low", "expired_sale", "low", 900, "", "c9"), suspect("turnover", "card_burst", "high", 9000, ""), suspect("small", "expired_sale", "high", 5, "", "c7"), later,
		suspect("sold", "restocked_code", "high", 0, "其后已再次售出", "c5"), suspect("box", "resold_code", "high", 3, "", "c1"), suspect("large", "expired_sale", "high", 700, "", "c6"),
		suspect("ring", "resale_ring", "high", 600, "", "c1", "c2"), suspect("held", "restocked_code", "high", 0, "尚可查获", "c4"), suspect("boxheld", "restocked_code", "high", 0, "尚可查获", "c2"),
		suspect("both", "resold_code", "medium", 3, "", "c1", "c9"),
	}
	f := workbook(t, list, export.Around{Rules: map[string]export.RuleText{
		"resale_ring": {Joins: export.JoinsOrgs}, "card_burst": {Amount: export.AmountTurnover}, "restocked_code": {Urgent: "尚可查获", Check: "1. 看货。\n2. 要发票。"},
	}})
	rows := cells(t, f, "线索")
	if got, want := column(rows, "线索编号"), "ring|boxheld|box|held|large|later|small|sold|turnover|both|low"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for i, want := range map[int][2]string{1: {"货可能还在", "看货。"}, 7: {"货已再次售出", "要发票。"}} {
		hint, step := rows[i]["提示"], rows[i]["先查什么(全部步骤见“说明”)"]
		if !strings.Contains(hint, want[0]) || step != want[1] {
			t.Errorf("%s: got hint %q and step %q, want %q", rows[i]["线索编号"], hint, step, want)
		}
	}
}

func TestWhatManySuspectsShareIsAReasonToLookAtReferenceDataFirst(t *testing.T) {
	var list []schema.Suspect
	for i, died := range []string{"2026-01-01", "2026-01-01", "2026-01-01", "2026-01-02", "2026-01-02"} {
		list = append(list, schema.Suspect{ID: strconv.Itoa(i), Detector: "settled_after_death", Severity: "high", EntityKind: "person", Reason: "参保人 p 已于 " + died + " 死亡"})
	}
	f := workbook(t, list, export.Around{Rules: map[string]export.RuleText{"settled_after_death": {Same: regexp.MustCompile(`已于 (\S+) 死亡`), SameWhat: "死亡日期"}}})
	const want = "3 条线索的死亡日期都是 2026-01-01,先查资料"
	if got := column(cells(t, f, "线索"), "提示"); got != want+"|"+want+"|"+want+"||" {
		t.Errorf("got %q", got)
	}
}

func TestSuspectsNameTheirRelations(t *testing.T) {
	suspect := func(id, severity string, codes, persons, orgs []string) schema.Suspect {
		return schema.Suspect{ID: id, Detector: "x", Severity: severity, EntityKind: "code", Codes: codes, Persons: persons, Orgs: orgs}
	}
	list := []schema.Suspect{
		suspect("a", "high", []string{"c1"}, []string{"p1"}, []string{"A", "A", "B"}), suspect("b", "medium", []string{"c1"}, []string{"p1"}, []string{"A"}),
		suspect("c", "medium", nil, []string{"p1", "p2"}, []string{"C"}), suspect("d", "low", nil, nil, []string{"B"}), suspect("e", "low", []string{"c9"}, nil, []string{"Z"}),
	}
	for i := range 4 {
		list = append(list, suspect("f"+strconv.Itoa(i), "low", nil, []string{"p2"}, nil))
	}
	rows := cells(t, workbook(t, list, export.Around{}), "线索")
	for i, want := range map[int]string{
		0: "同一追溯码 1 条:b\n同一参保人 1 条:c\n同一机构 1 条:d",
		2: "同一参保人 6 条:a、b、f0 等",
		3: "同一机构 1 条:a",
		4: "",
	} {
		if got := rows[i]["相关线索(先同码、再同人、再同机构)"]; got != want {
			t.Errorf("%s: got %q, want %q", rows[i]["线索编号"], got, want)
		}
	}
}

func TestWhoIsSuspectedIsNamed(t *testing.T) {
	list := []schema.Suspect{
		{EntityKind: "group", Detector: "resale_ring", EntityID: "P1+P2", Orgs: []string{"P2", "P1", "P3", "P1"}},
		{EntityKind: "group", Detector: "card_bundle", EntityID: "d5706c48", Orgs: []string{"P1"}, Persons: []string{"one", "two"}},
		{EntityKind: "device", Detector: "card_burst", EntityID: "P1/HISALL", Orgs: []string{"P1"}},
		{EntityKind: "lot", Detector: "oversold_lot", EntityID: "P3/XN02/L/7", Orgs: []string{"P3"}},
		{EntityKind: "code", Detector: "ghost_sale", EntityID: "P1/81919614060158519545", Orgs: []string{"P1"}},
		{EntityKind: "org", Detector: "price_outlier", EntityID: "P1", Orgs: []string{"P1"}},
	}
	for i := range list {
		list[i].ID, list[i].Severity = strconv.Itoa(i), "high"
	}
	a := around()
	a.Evidence = nil
	a.Rules = map[string]export.RuleText{"resale_ring": {Joins: export.JoinsOrgs}, "card_bundle": {Joins: export.JoinsPersons}}
	rows := cells(t, workbook(t, list, a), "线索")
	for i, want := range []string{
		"3 家机构:\n" + names["P1"] + "(P1)\n" + names["P2"] + "(P2)\nP3", "2 名参保人:\none\ntwo", names["P1"] + "(P1) 的终端 HISALL", "P3 的药品 XN02 批号 L/7",
		"81919614060158519545", names["P1"] + "(P1)",
	} {
		if got := rows[i]["对象名称或编号"]; got != want {
			t.Errorf("%s: got %q, want %q", list[i].Detector, got, want)
		}
	}
	if got := rows[2]["提示"]; !strings.Contains(got, "医院终端") {
		t.Errorf("a hospital's device: got %q, want a word that windows may share it", got)
	}
}

func TestTheWorkbookIsFitForPaper(t *testing.T) {
	f := workbook(t, list(), around())
	names := map[string]string{}
	for _, n := range f.GetDefinedName() {
		names[n.Scope+" "+n.Name] = n.RefersTo
	}
	for name, want := range map[string]string{
		"线索 _xlnm.Print_Area": "'线索'!$A$1:$M$5", "线索 _xlnm.Print_Titles": "'线索'!$1:$1", "证据 _xlnm.Print_Area": "'证据'!$A$1:$P$3", "说明 _xlnm.Print_Titles": "'说明'!$1:$1",
	} {
		if names[name] != want {
			t.Errorf("%s: got %q, want %q", name, names[name], want)
		}
	}
	for _, sheet := range f.GetSheetList() {
		page, err := f.GetPageLayout(sheet)
		if err != nil || *page.Orientation != "landscape" || *page.FitToWidth != 1 || *page.FitToHeight != 0 {
			t.Errorf("%s: got page %+v, %v, want across and as wide as the page", sheet, page, err)
		}
		header, err := f.GetHeaderFooter(sheet)
		if err != nil || !strings.Contains(header.OddHeader, "内部资料") || !strings.Contains(header.OddFooter, "第 &P 页,共 &N 页") {
			t.Errorf("%s: got %+v, %v, want the mark and page numbers", sheet, header, err)
		}
	}
	// What is printed fits a page without shrinking beyond reading.
	wide := 0.0
	for i := range 13 {
		name, err := excelize.ColumnNumberToName(i + 1)
		if err != nil {
			t.Fatal(err)
		}
		width, err := f.GetColWidth("线索", name)
		if err != nil {
			t.Fatal(err)
		}
		wide += width
	}
	if wide > 200 {
		t.Errorf("the columns on paper are %v characters wide, want at most 200", wide)
	}
	if level, err := f.GetColOutlineLevel("证据", "Z"); err != nil || level != 1 {
		t.Errorf("证据: column Z has level %d, %v, want one that folds", level, err)
	}
}
