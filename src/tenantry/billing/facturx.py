"""Factur-X (ZUGFeRD): a PDF/A-3 that carries the invoice as XML, and says so in its metadata."""

from __future__ import annotations

import io
from typing import cast

from pypdf import PdfWriter
from pypdf.generic import StreamObject

from tenantry.billing.refusals import NotDrawn

ATTACHMENT = "factur-x.xml"
_FX = "urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#"
_PROPERTIES = {
    "DocumentFileName": ATTACHMENT,
    "DocumentType": "INVOICE",
    "Version": "1.0",
    "ConformanceLevel": "EN 16931",
}
# typst describes properties of its own, and there is one list of all (XMP has no property twice).
_SCHEMAS_END = "</rdf:Bag></pdfaExtension:schemas>"
_END = "</rdf:RDF>"
# PDF/A names no property that its metadata do not describe (ISO 19005-3, 6.6.2.3).
_DESCRIBED = "".join(
    '<rdf:li rdf:parseType="Resource">'
    f"<pdfaProperty:name>{name}</pdfaProperty:name><pdfaProperty:valueType>Text</pdfaProperty:valueType>"
    f"<pdfaProperty:category>external</pdfaProperty:category><pdfaProperty:description>{name}"
    "</pdfaProperty:description></rdf:li>"
    for name in _PROPERTIES
)
_SCHEMA = (
    '<rdf:li rdf:parseType="Resource"><pdfaSchema:schema>Factur-X PDFA Extension Schema</pdfaSchema:schema>'
    f"<pdfaSchema:namespaceURI>{_FX}</pdfaSchema:namespaceURI><pdfaSchema:prefix>fx</pdfaSchema:prefix>"
    f"<pdfaSchema:property><rdf:Seq>{_DESCRIBED}</rdf:Seq></pdfaSchema:property></rdf:li>"
)
_SAID = (
    f'<rdf:Description rdf:about="" xmlns:fx="{_FX}">'
    + "".join(f"<fx:{name}>{value}</fx:{name}>" for name, value in _PROPERTIES.items())
    + "</rdf:Description>"
)


def declared(pdf: bytes) -> bytes:
    """A PDF/A-3 with `ATTACHMENT` in it, as one whose metadata say what that is.

    Raises: NotDrawn: its metadata are not written as typst 0.15 does.
    """
    writer = PdfWriter(clone_from=io.BytesIO(pdf))
    metadata = cast("StreamObject", writer.root_object["/Metadata"])
    said = metadata.get_data().decode()
    if (said.count(_SCHEMAS_END), said.count(_END)) != (1, 1):
        raise NotDrawn("this version of typst writes metadata that Factur-X cannot be added to; take pdf and cii")
    metadata.set_data(said.replace(_SCHEMAS_END, _SCHEMA + _SCHEMAS_END).replace(_END, _SAID + _END).encode())
    made = io.BytesIO()
    writer.write(made)
    return made.getvalue()
