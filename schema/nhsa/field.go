package nhsa

// A field is a member of a message that this package reads. Others are left out.
type field uint8

const (
	fNone field = iota

	// Of the envelope.
	fInfno
	fMsgID
	fInfTime
	fOrg
	fOrgRegion  // 机构所在区划
	fCareRegion // 就医地区划, often the prefecture
	fPersonRegion
	fDevice
	fOrgType
	fInput
	fOutput

	// Nodes that hold rows, and what stands around a settlement.
	fInvInfo
	fInvDetail
	fPurcInfo
	fPurcDetail
	fSelInfo
	fSelDetail
	fData
	fGoodDetail
	fFeeDetail
	fDrugDetail
	fDrugInfo
	fSetlInfo

	// Codes.
	fTracInfo
	fTracCodg
	fTracCode

	// Of a row.
	fDrug
	fListID
	fMedinsList
	fBatchNo
	fDoctorID
	fDoctor
	fBillDoctorID
	fBillDoctor
	fPharmacist
	fPharmacistID
	fFeeType
	fSetlType
	fSettlement
	fVisit
	fMdtrtID
	fPerson
	fCredential
	fMedType
	fLot
	fMade
	fExpires
	fSplit
	fPrice
	fInvPrice
	fRx
	fReceipt
	fDelivery
	fSupplier
	fSaleNo
	fFeeNo
	fInitFeeNo
	fFundPay
	fDays
	fSaleCount
	fPurcCount
	fCount
	fInvCount
	fSaleTime
	fPurcTime
	fChgTime
	fInvDate
	fFeeTime
	fSetlTime
	fSaleOperator
	fPurcOperator
	fChgOperator
	fChgType
	fDataType
	fOldMsgID
	fOldInfno

	fieldCount
)

// fieldNames has of each field its name in the interface, its Chinese name, and
// other spellings met in the field. Spelling is compared without case and
// without underscores, so drugTracCodg and DRUG_TRAC_CODG need no line here.
var fieldNames = [fieldCount]struct {
	name, chinese string
	also          []string
}{
	fInfno:        {name: "infno", chinese: "交易编号"},
	fMsgID:        {name: "msgid", chinese: "发送方报文ID"},
	fInfTime:      {name: "inf_time", chinese: "交易时间"},
	fOrg:          {name: "fixmedins_code", chinese: "定点医药机构编号"},
	fOrgRegion:    {name: "fixmedins_admdvs", chinese: "机构所在区划", also: []string{"fixmedins_admvs"}},
	fCareRegion:   {name: "mdtrtarea_admvs", chinese: "就医地医保区划", also: []string{"mdtrtarea_admdvs"}},
	fPersonRegion: {name: "insuplc_admdvs", chinese: "参保地医保区划", also: []string{"insuplc_admvs"}},
	fDevice:       {name: "dev_no", chinese: "设备编号"},
	fOrgType:      {name: "fixmedins_type", chinese: "定点医药机构类型"},
	fInput:        {name: "input", chinese: "交易输入"},
	fOutput:       {name: "output", chinese: "交易输出"},

	fInvInfo:    {name: "invinfo", chinese: "库存信息"},
	fInvDetail:  {name: "invinfoDetail", chinese: "库存信息明细"},
	fPurcInfo:   {name: "purcinfo", chinese: "采购信息"},
	fPurcDetail: {name: "purcinfoDetail", chinese: "采购信息明细"},
	fSelInfo:    {name: "selinfo", chinese: "销售信息"},
	fSelDetail:  {name: "selinfoDetail", chinese: "销售信息明细"},
	fData:       {name: "data", chinese: "数据"},
	fGoodDetail: {name: "goodDetail", chinese: "删除明细"},
	fFeeDetail:  {name: "feedetail", chinese: "费用明细"},
	fDrugDetail: {name: "drugdetail", chinese: "药品明细"},
	fDrugInfo:   {name: "druginfo", chinese: "药店结算信息"},
	fSetlInfo:   {name: "setlinfo", chinese: "结算信息"},

	fTracInfo: {name: "drugtracinfo", chinese: "溯源码节点"},
	fTracCodg: {name: "drug_trac_codg", chinese: "药品追溯码"},
	fTracCode: {name: "drug_trac_code", chinese: "药品追溯码"},

	fDrug:         {name: "med_list_codg", chinese: "医疗目录编码"},
	fListID:       {name: "fixmedins_hilist_id", chinese: "机构目录编号", also: []string{"fixmedins_hist_id"}},
	fMedinsList:   {name: "medins_list_codg", chinese: "医药机构目录编码"},
	fBatchNo:      {name: "fixmedins_bchno", chinese: "机构批次流水号"},
	fDoctorID:     {name: "prsc_dr_certno", chinese: "开方医师证件号码"},
	fDoctor:       {name: "prsc_dr_name", chinese: "开方医师姓名"},
	fBillDoctorID: {name: "bilg_dr_codg", chinese: "开单医生编码"},
	fBillDoctor:   {name: "bilg_dr_name", chinese: "开单医师姓名"},
	fPharmacist:   {name: "phar_name", chinese: "药师姓名"},
	fPharmacistID: {name: "phar_prac_cert_no", chinese: "药师资格证号"},
	fFeeType:      {name: "hi_feesetl_type", chinese: "医保费用结算类型"},
	fSetlType:     {name: "mdtrt_setl_type", chinese: "就诊结算类型"},
	fSettlement:   {name: "setl_id", chinese: "结算ID"},
	fVisit:        {name: "mdtrt_sn", chinese: "就医流水号"},
	fMdtrtID:      {name: "mdtrt_id", chinese: "就诊ID"},
	fPerson:       {name: "psn_no", chinese: "人员编号"},
	fCredential:   {name: "mdtrt_cert_type", chinese: "就诊凭证类型"},
	fMedType:      {name: "med_type", chinese: "医疗类别"},
	fLot:          {name: "manu_lotnum", chinese: "生产批号"},
	fMade:         {name: "manu_date", chinese: "生产日期"},
	fExpires:      {name: "expy_end", chinese: "有效期止"},
	fSplit:        {name: "trdn_flag", chinese: "拆零标志"},
	fPrice:        {name: "finl_trns_pric", chinese: "最终成交单价"},
	fInvPrice:     {name: "pric", chinese: "单价"},
	fRx:           {name: "rxno", chinese: "处方号"},
	fReceipt:      {name: "rtal_docno", chinese: "零售单据号"},
	fDelivery:     {name: "dynt_no", chinese: "随货单号"},
	fSupplier:     {name: "spler_name", chinese: "供应商名称"},
	fSaleNo:       {name: "medins_prod_sel_no", chinese: "商品销售流水号"},
	fFeeNo:        {name: "feedetl_sn", chinese: "费用明细流水号"},
	fInitFeeNo:    {name: "init_feedetl_sn", chinese: "原费用流水号"},
	fFundPay:      {name: "fund_pay_sumamt", chinese: "基金支付总额"},
	fDays:         {name: "prd_days", chinese: "周期天数"},
	fSaleCount:    {name: "sel_retn_cnt", chinese: "销售/退货数量"},
	fPurcCount:    {name: "purc_retn_cnt", chinese: "采购/退货数量"},
	fCount:        {name: "cnt", chinese: "数量"},
	fInvCount:     {name: "inv_cnt", chinese: "库存数量"},
	fSaleTime:     {name: "sel_retn_time", chinese: "销售/退货时间"},
	fPurcTime:     {name: "purc_retn_stoin_time", chinese: "采购/退货入库时间"},
	fChgTime:      {name: "inv_chg_time", chinese: "库存变更时间"},
	fInvDate:      {name: "invdate", chinese: "盘存日期"},
	fFeeTime:      {name: "fee_ocur_time", chinese: "费用发生时间"},
	fSetlTime:     {name: "setl_time", chinese: "结算时间"},
	fSaleOperator: {name: "sel_retn_opter_name", chinese: "销售/退货经办人姓名"},
	fPurcOperator: {name: "purc_retn_opter_name", chinese: "采购/退货经办人姓名"},
	fChgOperator:  {name: "inv_chg_opter_name", chinese: "库存变更经办人姓名"},
	fChgType:      {name: "inv_chg_type", chinese: "库存变更类型"},
	fDataType:     {name: "inv_data_type", chinese: "进销存数据类型"},
	fOldMsgID:     {name: "omsgid", chinese: "原发送方报文ID"},
	fOldInfno:     {name: "oinfno", chinese: "原交易编号"},
}

// label is how a message names f: as in the interface, with the Chinese behind.
func (f field) label() string { return fieldNames[f].name + "(" + fieldNames[f].chinese + ")" }

// fieldsBySpelling finds a field by its folded name. Never changed.
var fieldsBySpelling = func() map[string]field {
	out := map[string]field{}
	for f := fNone + 1; f < fieldCount; f++ {
		for _, name := range append(fieldNames[f].also, fieldNames[f].name) {
			var room [longestName]byte
			out[string(fold(room[:0], []byte(name)))] = f
		}
	}
	return out
}()

// longestName is how much of a member's name is looked at; fields have shorter ones.
const longestName = 32

// fold takes case and underscores out of a name, as schema.ScrubPerson does.
func fold(to, name []byte) []byte {
	for _, c := range name {
		switch {
		case c == '_':
			continue
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		}
		if len(to) == longestName {
			return nil
		}
		to = append(to, c)
	}
	return to
}

func fieldOf(name []byte) field {
	var room [longestName]byte
	return fieldsBySpelling[string(fold(room[:0], name))]
}
