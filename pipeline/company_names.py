"""What follows a company's name and belongs to it, as regular expressions: forms and places.

The legal forms are those of ISO 20275 that stand behind names of one's own words in contracts and
invoices of Europe, North America, Australia and Asia; most are words with a capital letter, as the
name itself, and need no mention here.
"""

_FORMS = (
    r"(?:Ltd|Limited|LLC|LLP|Inc|Corp|Co|Company|plc|PLC|GmbH|AG|KG|SE|S\.?A|SAS|SARL|S\.?p\.?A"
    r"|S\.?r\.?l|B\.?V|N\.?V|AB|AS|A/S|ApS|Oy|Pty|Pte|Pvt|Holdings?|Group|Partners|Services)\b"
)
FORM = (
    r"(?:,[ ](?:Inc|Ltd|LLC|LLP|GmbH|AG|S\.A)\b\.?|[ ]plc\b|[ ]e\.[ ]?[KV]\.|[ ]e[GKV]\b"
    r"|[ ]S\.à[ ]r\.l\.)"
)
"""A form behind a name that does not begin with a capital letter, or stands behind a comma."""
BRACKETED = rf"[ ]\([A-ZÀ-Þ][\w .&'-]{{1,30}}+\)(?=[ ]{_FORMS})"
"""A place in a name, before a form: "Keepsafe Storage (Durham) Limited"."""
DOTTED = r"[A-ZÀ-Þ](?:\.[A-Za-zÀ-ÿ]){1,4}+\b\.?"
"""Letters with full stops: "S.r.l.", "B.V.", and initials."""
_LAST = ("KG", "Ltd", r"Ltd\.", "Limited", "LLC", "LLP", "Inc", r"Inc\.", "plc", "GmbH", "SARL")
_LAST_DOTTED = (r"S\.A\.", r"S\.p\.A\.", r"N\.V\.", r"S\.r\.l\.", r"B\.V\.", r"e\.K\.", r"e\.V\.")
_ENDED = "|".join(rf"(?<=[ ]{form})" for form in (*_LAST, *_LAST_DOTTED))
_MORE = r"(?:&[ ])?(?:Co|Cie|[KA]G|Partnership|Liability|Company|[SŞ]irketi)\b|\("
OVER = rf"(?!(?:{_ENDED})[ ](?!{_MORE})|(?<=\.)[ ](?:The|This|It|Die|Der|Das|Le|La|Les)\b)"
"""Behind a form a name is over, whatever words stand in the next column ("Ltd Invoice no. 7"), but
for what makes another form of it ("Limited Partnership"); and so it is where a sentence begins."""
