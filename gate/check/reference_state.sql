SELECT concat(
    toString((SELECT max(loaded) FROM reference_drugs)),
    ' ',
    toString((SELECT max(loaded) FROM reference_orgs)),
    ' ',
    toString((SELECT max(loaded) FROM reference_exemptions)),
    ' ',
    toString((SELECT groupBitXor(cityHash64(text)) FROM placeholders FINAL)))
