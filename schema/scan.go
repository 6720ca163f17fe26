package schema

import "time"

// Kind says what happened to the boxes on one line of a receipt, a goods-in
// note or a stock list. Source: NHSA transactions 3501 to 3507 (infno).
type Kind string

// The kinds of scan event, version 1.
const (
	Sale           Kind = "sale"            // 3505 商品销售
	SaleReturn     Kind = "sale_return"     // 3506 商品销售退货
	Purchase       Kind = "purchase"        // 3503 商品采购
	PurchaseReturn Kind = "purchase_return" // 3504 商品采购退货
	StockIn        Kind = "stock_in"        // 3502 库存变更, inbound
	StockOut       Kind = "stock_out"       // 3502 库存变更, outbound
	StockTake      Kind = "stock_take"      // 3501 商品盘存
	Void           Kind = "void"            // 3507 删除, and cancelled settlements
)

// Kinds lists every kind, in the order of the table's Enum8 (1 to 8).
var Kinds = []Kind{Sale, SaleReturn, Purchase, PurchaseReturn, StockIn, StockOut, StockTake, Void}

// Who pays, how a person was identified and where care was given: the values
// of Scan.Pay, Scan.Credential and Scan.Setting.
const (
	PayInsured = "insured"
	PaySelf    = "self"

	CredentialECard  = "ecard"  // 01 医保电子凭证
	CredentialIDCard = "idcard" // 02 居民身份证
	CredentialSSCard = "sscard" // 03 社会保障卡

	SettingPharmacy   = "pharmacy"
	SettingOutpatient = "outpatient"
	SettingInpatient  = "inpatient"
	SettingOther      = "other"
)

// MaxCodes is the most codes one event may carry.
const MaxCodes = 1000

// Shanghai is the zone of every date and month. China has had no daylight
// saving since 1991, so a fixed offset serves and needs no zone database.
var Shanghai = time.FixedZone("Asia/Shanghai", 8*60*60)

// Scan is one event: one product on one line, with its codes. Field names
// follow the wire (snake case there); docs/events.md names the NHSA fields.
// Absent is the zero value. Decoding fills no defaults; see Defaults.
type Scan struct {
	EventID string // the sender's key within Org
	Kind    Kind
	Time    time.Time // when it happened at the counter
	Sent    time.Time // when the sender uploaded it; zero means Time
	Org     string
	Region  string // 6 digits
	Codes   []string

	Device   string
	Drug     string // national catalogue code that was billed
	Lot      string
	Made     time.Time // a date, midnight UTC; zero means absent
	Expires  time.Time // a date, midnight UTC; zero means absent
	Split    bool      // 拆零
	Quantity Number    // smallest sale packs; units when Split
	Price    Number    // yuan per unit of Quantity
	Days     Number    // days of supply
	FundPay  Number    // yuan the fund paid for this line

	Pay          string
	Settlement   string
	Visit        string
	Person       string // the number on the card in the stream, a pseudonym in the table
	PersonRegion string
	Credential   string
	Setting      string

	Doctor       string
	DoctorID     string
	Pharmacist   string
	PharmacistID string
	Operator     string
	Rx           string
	Doc          string
	BatchNo      string
	Supplier     string
	Reverses     string
	VoidKinds    []Kind // wire name void_kind; kinds a void by settlement or batch_no deletes

	Unknown int // how many fields of the message are not in the contract
}

// Number is a decimal with six places, as NHSA's 数值型 16,6: Micro millionths.
// Known tells a zero from a missing value.
type Number struct {
	Micro int64
	Known bool
}

// Whole returns the known Number n.
func Whole(n int64) Number { return Number{Micro: n * 1e6, Known: true} }

// Float returns the value, 0 when unknown.
func (n Number) Float() float64 { return float64(n.Micro) / 1e6 }

// Defaults returns s with the contract's defaults in the place of missing
// values: sent, pay, setting, quantity, and void_kind on a void. Two codes of
// one item count once, as a box read twice is one box; see Items.
func (s Scan) Defaults(items int) Scan {
	s.fillDefaults(items)
	return s
}

// fillDefaults is Defaults in place.
func (s *Scan) fillDefaults(items int) {
	if s.Sent.IsZero() {
		s.Sent = s.Time
	}
	if s.Pay == "" {
		s.Pay = PaySelf
		if s.Settlement != "" {
			s.Pay = PayInsured
		}
	}
	if s.Setting == "" {
		s.Setting = SettingOther
	}
	if !s.Quantity.Known && items > 0 {
		s.Quantity = Whole(int64(items))
	}
	if s.Kind == Void && len(s.VoidKinds) == 0 {
		s.VoidKinds = []Kind{Sale}
	}
}
