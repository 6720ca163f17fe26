package export

import (
	"strings"

	"yaosu/schema"
)

// Nothing changes these tables. A word that is not in them is shown as it is.
var (
	// chinese is how officers read the words of the wire.
	chinese = map[string]string{
		"high": "高", "medium": "中", "low": "低",
		"code": "追溯码", "person": "参保人", "org": "机构", "device": "终端", "lot": "批次", "group": "团伙",
		schema.StatusOpen: "待核", schema.StatusReviewing: "核查中", schema.StatusConfirmed: "属实",
		schema.StatusDismissed: "排除", schema.StatusReferred: "移送", schema.StatusExplained: "已解释",
	}

	// roleWords are the roles of institutions and events, of all rules.
	roleWords = map[string]string{
		"sold_first":              "首次售出",
		"sold_again":              "再次售出",
		"sold_elsewhere":          "他处售出",
		"sold":                    "售出",
		"split_sold":              "拆零售出",
		"sold_insured":            "医保售出",
		"sold_for_cash":           "自费售出",
		"restocked":               "再次入库",
		"returned":                "退货",
		"returned_late":           "迟到的退货",
		"voided_late":             "迟到的撤销",
		"counted":                 "盘存时仍在库",
		"moved_out":               "出库",
		"sent_out":                "出库",
		"sent_back":               "退回供应商",
		"purchased":               "采购",
		"received":                "收货",
		"burst":                   "集中刷卡",
		"together":                "结伴刷卡",
		"swiped":                  "结伴刷卡",
		"card_here":               "此处刷卡",
		"card_there":              "异地再刷",
		"bought":                  "购药",
		"dispensed":               "配药",
		"sold_unsourced":          "无进货售出",
		"unscanned":               "未扫码售出",
		"substituted":             "串换售出",
		"sold_expired":            "过期售出",
		"sold_expired_for_cash":   "过期售出(自费)",
		"settled_after_death":     "死亡后结算",
		"sold_during_stay":        "住院期间结算",
		"settled_while_suspended": "停保期间结算",
		"overpriced":              "超价售出",
	}

	kindWords = map[string]string{
		string(schema.Sale):           "销售",
		string(schema.SaleReturn):     "销售退货",
		string(schema.Purchase):       "采购",
		string(schema.PurchaseReturn): "采购退货",
		string(schema.StockIn):        "入库",
		string(schema.StockOut):       "出库",
		string(schema.StockTake):      "盘存",
		string(schema.Void):           "作废",
	}

	payWords = map[string]string{schema.PayInsured: "医保", schema.PaySelf: "自费"}

	// schemeWords say what stands in the place of a code.
	schemeWords = map[string]string{
		string(schema.SchemeCN20):        "追溯码",
		string(schema.SchemeGS1):         "追溯码(GS1)",
		string(schema.SchemeMA):          "追溯码(MA)",
		string(schema.SchemeOwn):         "厂家自编码",
		string(schema.SchemeProduct):     "商品条码",
		string(schema.SchemePlaceholder): "占位符",
		string(schema.SchemeInvalid):     "无法识别",
		string(schema.SchemeNone):        "无码",
	}

	credentialWords = map[string]string{"ecard": "电子凭证", "idcard": "身份证", "sscard": "社保卡"}

	settingWords = map[string]string{"pharmacy": "药店", "outpatient": "门诊", "inpatient": "住院", "other": "其他"}

	typeWords = map[string]string{
		"pharmacy": "药店", "hospital": "医院", "clinic": "诊所", "village": "村卫生室", "wholesaler": "批发企业",
	}
)

// rolesOfKind are the roles that only events of some kinds play: what tells the
// events of an institution with several roles apart.
var rolesOfKind = map[string][]schema.Kind{
	"sold_first": {schema.Sale}, "sold_again": {schema.Sale}, "sold_elsewhere": {schema.Sale}, "sold": {schema.Sale}, "split_sold": {schema.Sale},
	"sold_insured": {schema.Sale}, "sold_for_cash": {schema.Sale}, "sold_unsourced": {schema.Sale},
	"restocked": {schema.Purchase, schema.StockIn, schema.StockTake}, "purchased": {schema.Purchase}, "received": {schema.StockIn},
	"returned": {schema.SaleReturn}, "returned_late": {schema.SaleReturn}, "voided_late": {schema.Void},
	"counted": {schema.StockTake}, "moved_out": {schema.StockOut}, "sent_out": {schema.StockOut}, "sent_back": {schema.PurchaseReturn},
	"burst": {schema.Sale}, "together": {schema.Sale}, "card_here": {schema.Sale}, "card_there": {schema.Sale},
}

func word(table map[string]string, of string) string {
	if w, known := table[of]; known {
		return w
	}
	return of
}

func inChinese(of string) string { return word(chinese, of) }

// Role is how an officer reads a role.
func Role(role string) string { return word(roleWords, role) }

// KnownRole tells whether there is a word for a role.
func KnownRole(role string) bool { return roleWords[role] != "" }

// Kind is how an officer reads a kind of event.
func Kind(kind string) string { return word(kindWords, kind) }

// Severity and Entity are how an officer reads those of a suspect.
func Severity(severity string) string { return inChinese(severity) }

// Entity is how an officer reads a kind of entity.
func Entity(kind string) string { return inChinese(kind) }

// Status is the status of a suspect, with a mark when new evidence came after it
// was dismissed.
func Status(s *schema.Suspect) string {
	switch {
	case s.Reopened:
		return inChinese(s.Status) + "(新证据,重新打开)"
	case s.SupersededBy != "":
		return inChinese(s.Status) + "(并入 " + s.SupersededBy + ")"
	}
	return inChinese(s.Status)
}

// StatusWord is how an officer reads a decided status.
func StatusWord(status string) string { return inChinese(status) }

// EventRoles are the roles in which an event of an institution can stand in a
// suspect, in words.
func EventRoles(s *schema.Suspect, org, kind string) string {
	var fitting, any []string
	seen := map[string]bool{}
	for i, o := range s.Orgs {
		if o != org || i >= len(s.Roles) || seen[s.Roles[i]] {
			continue
		}
		role := s.Roles[i]
		seen[role] = true
		kinds, told := rolesOfKind[role]
		fits := !told
		for _, k := range kinds {
			fits = fits || string(k) == kind
		}
		if fits {
			fitting = append(fitting, Role(role))
		}
		any = append(any, Role(role))
	}
	if len(fitting) > 0 {
		any = fitting
	}
	return strings.Join(any, "、")
}
