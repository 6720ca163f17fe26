package export

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/xuri/excelize/v2"

	"yaosu/schema"
)

// workbook is one that is being made of a list in its order.
type workbook struct {
	*book
	list     []schema.Suspect
	around   Around
	money    *ledger
	same     sameness
	suspects *sheet
	evidence *sheet
}

// writeXLSX writes the list as a workbook for officers. Suspects and their evidence
// are written side by side, as the evidence comes.
func writeXLSX(w io.Writer, list []schema.Suspect, around Around) (err error) {
	rows := around.RowsPerSheet
	if rows == 0 {
		rows = rowsPerSheet
	}
	if rows < 2 {
		return fmt.Errorf("%d rows a sheet: want at least 2", rows)
	}
	// Reference data may not know where an institution is; its scans do.
	around.OrgRegions = maps.Clone(around.OrgRegions)
	if around.OrgRegions == nil {
		around.OrgRegions = map[string]string{}
	}
	b, err := newBook(rows, around.About.Made)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.file.Close()) }() // removes the files of long sheets
	f := &workbook{book: b, list: inOrder(list, &around), around: around, money: newLedger()}
	f.same = countSame(f.list, &f.around)
	for _, write := range []func() error{f.writeSuspects, f.writeOrgs, f.writeAbout, f.finish} {
		if err := write(); err != nil {
			return err
		}
	}
	if err := b.file.SetDocProps(&excelize.DocProperties{Title: "药溯线索清单", Creator: cell(cmp.Or(around.About.By, "药溯")), Created: around.About.Made.UTC().Format(time.RFC3339)}); err != nil {
		return err
	}
	_, err = b.file.WriteTo(w)
	return err
}

func personTitle(around *Around) string {
	if around.About.Resolved {
		return "参保人(编号)"
	}
	return "参保人(假名)"
}

// writeSuspects writes the suspects and their evidence.
func (f *workbook) writeSuspects() (err error) {
	person := personTitle(&f.around)
	f.suspects, err = f.sheet(sheetSuspects, sheetEvidence, layout{frozen: 3, printed: 13}, []heading{
		{"序号", 6, asCount}, {"线索编号", 18, asText}, {"严重程度", 6, asText}, {"规则", 14, asLines},
		{"说明", 46, asLines}, {"提示", 17, asLines}, {"先查什么(全部步骤见“说明”)", 28, asLines},
		{"疑似损失(元)", 11, asYuan}, {"涉及金额(元,不是损失)", 11, asYuan}, {"最近日期", 11, asDay},
		{"承办人", 9, asText}, {"核查结论", 10, asLines}, {"备注", 10, asLines},
		{"状态", 12, asLines}, {"对象", 8, asText}, {"对象名称或编号", 34, asLines}, {"涉及机构及角色", 44, asLines}, {"相关线索(先同码、再同人、再同机构)", 46, asLines},
		{"地区(首个为最近发生地)", 24, asLines}, {"最早时间", 19, asMoment}, {"最近时间", 19, asMoment}, {"月份", 9, asText},
		{"追溯码数", 9, asCount}, {"参保人数", 9, asCount}, {"证据事件数", 10, asCount},
		{person, 20, asLines}, {"首次发现", 19, asMoment}, {"最近变化", 19, asMoment}, {"规则编号", 20, asText},
	})
	if err != nil {
		return err
	}
	f.evidence, err = f.sheet(sheetEvidence, "", layout{frozen: 2, printed: 16, folding: 18}, []heading{
		{"线索编号", 18, asText}, {"时间", 19, asMoment}, {"机构编号", 15, asText}, {"机构名称", 20, asLines},
		{"角色", 12, asLines}, {"业务", 9, asText}, {"追溯码", 23, asText}, {"码的类别", 11, asText},
		{"结算的药品", 18, asLines}, {"码上的药品", 18, asLines}, {"批号", 11, asText},
		{"数量(本码)", 8, asAmount}, {"支付", 6, asText}, {"基金支付(元,本码)", 11, asYuan}, {"金额依据", 9, asText}, {person, 19, asText},
		{"结算号", 20, asText}, {"计入合计(元,每笔每盒只计一次)", 13, asYuan}, {"前面已列", 7, asText}, {"被冲销的单据", 28, asLines},
		{"单价(元)", 10, asYuan}, {"拆零", 6, asText}, {"有效期至", 11, asDay}, {"用药天数", 8, asAmount},
		{"凭证", 12, asText}, {"场景", 8, asText}, {"处方号", 18, asText}, {"医师", 12, asText}, {"药师", 12, asText}, {"操作员", 12, asText}, {"终端", 12, asText},
		{"供应商", 24, asLines}, {"票据号、随货单号", 20, asText}, {"结算的药品编码", 24, asText}, {"药品标识码", 15, asText}, {"地区", 22, asText},
		{"上传时间", 19, asMoment}, {"事件号", 24, asText},
	})
	if err != nil {
		return err
	}
	related := relate(f.list)
	i := 0
	write := func(x *schema.Suspect, lines []Line) error {
		kind := f.around.Rules[x.Detector].Amount
		entries := f.money.add(x, kind, lines)
		if err := f.addSuspect(i, x, kind, related.of(i)); err != nil {
			return err
		}
		i++
		return f.addEvidence(x, lines, entries)
	}
	if f.around.Evidence != nil {
		err = f.around.Evidence(f.list, write)
	} else {
		for i := range f.list {
			err = errors.Join(err, write(&f.list[i], nil))
		}
	}
	return errors.Join(err, f.suspects.end(), f.evidence.end())
}

func (f *workbook) addSuspect(i int, x *schema.Suspect, kind, related string) error {
	rule := f.around.Rules[x.Detector]
	first := 0
	if rule.Urgent != "" && !f.around.urgent(x) {
		first = 1 // the goods are gone
	}
	// An amount stands in the column of its kind.
	var loss, other any = x.Amount, nil
	if kind == AmountTurnover || kind == AmountRefunded {
		loss, other = nil, x.Amount
	}
	return f.suspects.add(i+1, x.ID, level(x.Severity), f.around.title(x.Detector),
		x.Reason, f.hints(x, kind), step(rule.Check, first), loss, other, x.LastTime,
		"", "", "",
		Status(x), inChinese(x.EntityKind), f.around.entity(x), parts(x, f.around), related,
		someLines(x.Regions, f.around.region), x.FirstTime, x.LastTime, x.Period,
		len(x.Codes), len(x.Persons), len(x.Events),
		someLines(x.Persons, asItIs), x.OpenedAt, x.UpdatedAt, x.Detector)
}

// hints are what to know before the first step.
func (f *workbook) hints(x *schema.Suspect, kind string) string {
	rule := f.around.Rules[x.Detector]
	var hints []string
	switch {
	case f.around.urgent(x):
		hints = append(hints, "货可能还在:先去看货、封存")
	case rule.Urgent != "":
		hints = append(hints, "货已再次售出:查购进单据和再次售出的那一笔")
	}
	if same := f.same.hint(x, &f.around); same != "" {
		hints = append(hints, same)
	}
	switch kind {
	case AmountTurnover:
		hints = append(hints, "金额是所涉结算的总额,不等于损失")
	case AmountRefunded:
		hints = append(hints, "都已退货:金额是退货之前付的,核对是否已退回基金")
	}
	if x.EntityKind == "device" && len(x.Orgs) > 0 && f.around.Types[x.Orgs[0]] == "hospital" {
		hints = append(hints, "医院终端:先问是否几个窗口共用一个终端号")
	}
	return strings.Join(hints, "\n")
}

// entity is who or what is suspected, by name where there is one.
func (a *Around) entity(s *schema.Suspect) string {
	org, rest := "", s.EntityID
	for _, o := range s.Orgs {
		if of, inside := strings.CutPrefix(s.EntityID, o+"/"); inside {
			org, rest = o, of
			break
		}
	}
	switch {
	case s.EntityKind == "org":
		return a.org(s.EntityID)
	case s.EntityKind == "device" && org != "":
		return a.org(org) + " 的终端 " + rest
	case s.EntityKind == "lot" && org != "":
		drug, lot, _ := strings.Cut(rest, "/")
		return a.org(org) + " 的药品 " + drug + " 批号 " + lot
	case s.EntityKind == "code":
		return rest
	}
	switch a.Rules[s.Detector].Joins {
	case JoinsOrgs:
		orgs := slices.Sorted(maps.Keys(set(s.Orgs)))
		return fmt.Sprintf("%d 家机构:\n", len(orgs)) + someLines(orgs, a.org)
	case JoinsPersons:
		return fmt.Sprintf("%d 名参保人:\n", len(s.Persons)) + someLines(s.Persons, asItIs)
	}
	return s.EntityID
}

func asItIs(s string) string { return s }

// linesInCell keeps a row from filling the screen.
const linesInCell = 12

// someLines is a list with a line each, and how many more there are.
func someLines(list []string, show func(string) string) string {
	var b strings.Builder
	for i, v := range list {
		if i == linesInCell {
			fmt.Fprintf(&b, "\n等共 %d 个", len(list))
			break
		}
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(show(v))
	}
	return b.String()
}

// parts lists the institutions with what each did.
func parts(s *schema.Suspect, around Around) string {
	var orgs []string
	roles := map[string][]string{}
	for i, org := range s.Orgs {
		if roles[org] == nil {
			orgs = append(orgs, org)
		}
		role := ""
		if i < len(s.Roles) {
			role = Role(s.Roles[i])
		}
		if !slices.Contains(roles[org], role) {
			roles[org] = append(roles[org], role)
		}
	}
	return someLines(orgs, func(org string) string {
		return around.org(org) + ":" + strings.Join(roles[org], "、")
	})
}

func (f *workbook) addEvidence(x *schema.Suspect, lines []Line, entries []entry) error {
	settlements := map[string]string{} // of the suspect's sales
	for _, l := range lines {
		if l.Kind == string(schema.Sale) {
			settlements[l.Org+"/"+l.EventID] = l.Settlement
		}
	}
	for i, l := range lines {
		if l.Region != "" && f.around.OrgRegions[l.Org] == "" {
			f.around.OrgRegions[l.Org] = l.Region
		}
		kind, region, pay, setting, seen := Kind(l.Kind), "", "", "", ""
		var paid, basis, counted, quantity, price, days any
		switch l.Kind {
		case "":
			kind = "明细已不在库"
		case string(schema.Void):
		default:
			quantity = l.Quantity
		}
		if l.Region != "" {
			region = f.around.region(l.Region)
		}
		if l.Kind == string(schema.Sale) {
			pay, setting = word(payWords, l.Pay), word(settingWords, l.Setting)
		}
		switch back := l.Kind == string(schema.SaleReturn); {
		case !payment(l):
		case l.Reckoned && l.Paid == 0:
			basis = "没有上传"
		case back:
			paid, basis = -l.Paid, "退回"
		default:
			paid, basis = l.Paid, "实付"
		}
		if l.Reckoned && paid != nil {
			basis = "单价×数量"
		}
		if entries[i].counted > 0 {
			counted = entries[i].counted
		}
		if entries[i].repeated {
			seen = "是"
		}
		if l.Price > 0 {
			price = l.Price
		}
		if l.Days > 0 {
			days = l.Days
		}
		expires, _ := time.ParseInLocation(time.DateOnly, l.Expires, schema.Shanghai) // the zero time is shown empty
		err := f.evidence.add(x.ID, l.Time, l.Org, f.around.Names[l.Org],
			EventRoles(x, l.Org, l.Kind), kind, code(l), codeClass(l), billed(l), product(l), l.Lot,
			quantity, pay, paid, basis, l.Person,
			l.Settlement, counted, seen, reversed(l, settlements),
			price, yes(l.Split), expires, days,
			word(credentialWords, l.Credential), setting, l.Rx, l.Doctor, l.Pharmacist, l.Operator, l.Device,
			l.Supplier, l.Doc, l.Drug, l.Product, region, l.Sent, l.EventID)
		if err != nil {
			return err
		}
	}
	return nil
}

func yes(is bool) string {
	if is {
		return "是"
	}
	return ""
}

// codeClass says what stands in the column of codes.
func codeClass(l Line) string {
	if l.Kind == "" || l.Kind == string(schema.Void) {
		return ""
	}
	return word(schemeWords, l.Scheme)
}

// code is what stands on the box: makers' own codes are compared with the drug
// before them.
func code(l Line) string {
	if l.Scheme == string(schema.SchemeOwn) {
		return strings.TrimPrefix(l.Code, l.Drug+" ")
	}
	return l.Code
}

// billed is the drug as it was billed, product the one that the code belongs to.
func billed(l Line) string {
	if l.DrugName == "" && l.Drug == l.ProductDrug {
		return cmp.Or(l.ProductName, l.Drug)
	}
	return cmp.Or(l.DrugName, l.Drug)
}

func product(l Line) string {
	name := cmp.Or(l.ProductName, l.ProductDrug)
	if l.Drug != "" && l.ProductDrug != "" && l.Drug != l.ProductDrug {
		return name + "\n(与结算的不是一种)"
	}
	return name
}

// reversed is what a return or a void takes back, with its settlement where the
// suspect's evidence has it.
func reversed(l Line, settlements map[string]string) string {
	if l.Reverses != "" {
		text := "事件 " + l.Reverses
		if of := settlements[l.Org+"/"+l.Reverses]; of != "" {
			text += "\n结算号 " + of
		}
		return text
	}
	if l.Kind == string(schema.Void) {
		switch {
		case l.Settlement != "":
			return "结算号 " + l.Settlement
		case l.Batch != "":
			return "上传批次 " + l.Batch
		}
	}
	return ""
}

// share is what the list says of one institution.
type share struct {
	suspects  int
	levels    map[string]int
	roles     map[string]int
	detectors map[string]int
}

func (f *workbook) writeOrgs() error {
	s, err := f.sheet(sheetOrgs, "", layout{frozen: 2}, []heading{
		{"机构编号", 18, asText}, {"机构名称", 34, asText}, {"类型", 10, asText}, {"地区", 26, asText},
		{"线索数", 9, asCount}, {"严重程度高", 9, asCount}, {"中", 7, asCount}, {"低", 7, asCount}, {"本机构经手的追溯码数", 12, asCount},
		{"疑似损失(元,付给本机构的,每笔每盒只计一次)", 18, asYuan}, {"其中按单价×数量估算(元)", 14, asYuan}, {"涉及金额(元,不是损失,每笔只计一次)", 16, asYuan}, {"已退货金额(元)", 12, asYuan},
		{"角色及线索数", 34, asLines}, {"涉及规则及线索数", 34, asLines},
	})
	if err != nil {
		return err
	}
	shares := map[string]*share{}
	for i := range f.list {
		x := &f.list[i]
		for org := range set(x.Orgs) {
			o := shares[org]
			if o == nil {
				o = &share{levels: map[string]int{}, roles: map[string]int{}, detectors: map[string]int{}}
				shares[org] = o
			}
			o.suspects++
			o.levels[x.Severity]++
			o.detectors[f.around.title(x.Detector)]++
			for j, of := range x.Orgs {
				if of == org && j < len(x.Roles) {
					o.roles[Role(x.Roles[j])]++
				}
			}
		}
	}
	orgs := slices.SortedFunc(maps.Keys(shares), func(a, b string) int {
		x, y := shares[a], shares[b]
		return cmp.Or(cmp.Compare(y.levels["high"], x.levels["high"]), cmp.Compare(y.levels["medium"], x.levels["medium"]),
			cmp.Compare(y.suspects, x.suspects), cmp.Compare(a, b))
	})
	for _, org := range orgs {
		o, paid := shares[org], f.money.org(org)
		region := f.around.OrgRegions[org]
		if region != "" {
			region = f.around.region(region)
		}
		err := s.add(org, f.around.Names[org], word(typeWords, f.around.Types[org]), region,
			o.suspects, o.levels["high"], o.levels["medium"], o.levels["low"], len(paid.codes),
			cents(paid.loss), cents(paid.reckoned), cents(paid.turnover), cents(paid.refunded), counts(o.roles), counts(o.detectors))
		if err != nil {
			return err
		}
	}
	return s.end()
}

// counts lists words with how often each occurs, the most frequent first.
func counts(of map[string]int) string {
	words := slices.SortedFunc(maps.Keys(of), func(a, b string) int { return cmp.Or(cmp.Compare(of[b], of[a]), cmp.Compare(a, b)) })
	return someLines(words, func(w string) string { return w + " " + strconv.Itoa(of[w]) })
}

func (f *workbook) writeAbout() error {
	s, err := f.sheet(sheetAbout, "", layout{frozen: 1}, []heading{{"项目", 22, asLines}, {"内容", 120, asLines}})
	if err != nil {
		return err
	}
	levels := map[string]int{}
	used := map[string]int{}
	values := map[string]map[string]string{} // of rules, parameters
	for i := range f.list {
		x := &f.list[i]
		levels[x.Severity]++
		used[x.Detector]++
		if values[x.Detector] == nil {
			values[x.Detector] = valuesOf(x)
		}
	}
	persons := "参保人一律显示为假名:同一假名就是同一人,不能反推出编号。需要编号的,经批准后请管理员导出带编号的表(见“给管理员”)。"
	if f.around.About.Resolved {
		persons = "本表已把假名换成参保人编号,属个人信息:限办案人员使用,不得外传,用后删除。"
	}
	all := f.money.all
	lines := [][2]string{
		{"这是什么", "药溯从追溯码扫码与医保结算数据中找出的疑点线索。线索不是结论:每一条都要先排除正当情形,再核查取证。内部资料,不对外提供。"},
		{"共有", fmt.Sprintf("%d 条线索(高 %d,中 %d,低 %d)。", len(f.list), levels["high"], levels["medium"], levels["low"])},
		{"疑似损失", fmt.Sprintf("%s 元。同一笔结算的同一盒药,不论在几条线索里,只计一次。其中 %s 元没有上传基金支付额,按单价×数量估算,以结算单为准。", yuan(all.loss), yuan(all.reckoned))},
		{"涉及金额", fmt.Sprintf("%s 元,不是损失,不能与疑似损失相加:有的规则(如短时间多人刷卡、应扫未扫)只能给出所涉结算的总额,其中多少不该付要核查之后才知道。", yuan(all.turnover))},
		{"已退货金额", fmt.Sprintf("%s 元,是结算之后又退货的,不计入追回;要查的是退的款是否回到基金。", yuan(all.refunded))},
		{"生成时间", f.around.About.Made.In(schema.Shanghai).Format("2006-01-02 15:04:05") + "(北京时间)"},
		{"生成人", cmp.Or(f.around.About.By, "没有填写")},
		{"筛选条件", f.around.About.Filter},
		{"怎么用", "“线索”一行一条,可用表头筛选;“说明”列是事由,“提示”列是查之前要知道的,“先查什么”是第一步。按线索编号到“证据”表看逐笔事件:哪天、哪家、哪盒、谁的卡、付了多少;右侧的凭证、处方、操作员等列可以折叠。" +
			"“相关线索”列出共用追溯码、参保人、机构的其他线索,合在一起查。“机构汇总”看哪一家涉及最多。承办人、核查结论、备注三列空着,手填;填好之后请管理员登记(见“给管理员”),已排除、已解释的下次不再列出。"},
		{"先后次序", "先按严重程度;同级的,货可能还在、来得及封存的在前;再按疑似损失从大到小;再按最近时间。回流药团伙下面紧跟它所涉的各盒药,整组排在其中最靠前的位置。重新排序之后,按“序号”可以还原。"},
		{"打印", "“线索”打印到“备注”列,“证据”打印到参保人一列,A4 横向,每页重复表头;右边的列只在屏幕上看。要打印它们,先取消打印区域。"},
		{"参保人", persons},
		{"金额怎么算", "每条线索的疑似损失是基金不该支付的部分;同一个码的多次结算,扣除第一次。0 元表示尚未付款(如再次入库的药),或无法计算。下面规则里说的“涉及金额”,就是填在疑似损失或涉及金额一栏的那个数。“证据”表里“金额依据”写明:实付是上传的基金支付额,单价×数量是估算;" +
			"没有上传表示两样都没有;自费销售和进货不填金额;退货记负数。“计入合计”一列从每条线索最晚的销售往前数,前面的线索已经数过的不再数。机构汇总只算付给本机构的,可以相加。"},
		{"严重程度", f.around.SeverityRule},
		{"状态", "待核:还没有人处理;核查中、属实、移送、排除:人工登记的结论;已解释:后来的退货、撤销、资料或豁免说明了原因;“新证据,重新打开”:排除之后又出现了新的证据事件,请再看。"},
		{"先查资料", fmt.Sprintf("同一规则有 %d 条以上线索的死亡日期、药品、价格或批号相同的,“提示”列会写明:往往是参考资料错了一行,先核对资料,再逐条查。", manySame)},
		{"连锁", "机构资料里没有写明哪些机构属于同一连锁,本表认不出来;同一连锁的几家,请看机构名称。"},
		{"时间", "均为北京时间,取业务发生时间,不是上传时间;上传时间另列在“证据”表右侧。"},
		{"给管理员", adminBox},
	}
	for _, l := range lines {
		if l[1] == "" {
			continue
		}
		if err := s.add(l[0], l[1]); err != nil {
			return err
		}
	}
	read := newReader(f.around.Titles)
	for _, id := range slices.SortedFunc(maps.Keys(used), func(a, b string) int { return cmp.Or(cmp.Compare(used[b], used[a]), cmp.Compare(a, b)) }) {
		rule := f.around.Rules[id]
		title := f.around.title(id)
		for _, part := range [][2]string{
			{"规则:" + title, fmt.Sprintf("本表 %d 条(规则编号 %s)", used[id], id)},
			{title + ":表现", read.text(rule.Looks, values[id])},
			{title + ":正当解释", read.text(rule.Honest, values[id])},
			{title + ":怎样核查", read.text(rule.Check, values[id])},
			{title + ":查不出什么", read.text(rule.Misses, values[id])},
		} {
			if part[1] == "" {
				continue
			}
			if err := s.add(part[0], part[1]); err != nil {
				return err
			}
		}
	}
	return s.end()
}

// adminBox is the one place that names commands: officers hand it on.
const adminBox = `以下命令由装有药溯的服务器的管理员执行,办案人员把要求告诉他即可。中文处换成实际内容。
登记核查结论:yaosu review 线索编号 --status confirmed --by 承办人 --reason 理由
  结论一词:confirmed 属实,dismissed 排除,referred 移送,reviewing 核查中,open 撤回以前的结论
看一条线索的来龙去脉:yaosu detect explain 线索编号
看一盒药的全部记录:yaosu trace 追溯码
重新导出本表:yaosu suspects --format xlsx --by 姓名 --out 线索.xlsx
导出带参保人编号的表(须经批准,且有对照库的读权限):上一行加 --resolve`
