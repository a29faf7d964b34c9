"""Factur-X (ZUGFeRD): a PDF/A-3 that carries the invoice as XML, and says so in its metadata."""

from __future__ import annotations

import io
from typing import cast

from pypdf import PdfWriter
from pypdf.generic import StreamObject

ATTACHMENT = "factur-x.xml"
_FX = "urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#"
_PROPERTIES = {
    "DocumentFileName": ATTACHMENT,
    "DocumentType": "INVOICE",
    "Version": "1.0",
    "ConformanceLevel": "EN 16931",
}
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
    '<rdf:Description rdf:about="" xmlns:pdfaExtension="http://www.aiim.org/pdfa/ns/extension/"'
    ' xmlns:pdfaSchema="http://www.aiim.org/pdfa/ns/schema#" xmlns:pdfaProperty="http://www.aiim.org/pdfa/ns/property#">'
    '<pdfaExtension:schemas><rdf:Bag><rdf:li rdf:parseType="Resource">'
    "<pdfaSchema:schema>Factur-X PDFA Extension Schema</pdfaSchema:schema>"
    f"<pdfaSchema:namespaceURI>{_FX}</pdfaSchema:namespaceURI><pdfaSchema:prefix>fx</pdfaSchema:prefix>"
    f"<pdfaSchema:property><rdf:Seq>{_DESCRIBED}</rdf:Seq></pdfaSchema:property>"
    "</rdf:li></rdf:Bag></pdfaExtension:schemas></rdf:Description>"
)
_SAID = (
    f'<rdf:Description rdf:about="" xmlns:fx="{_FX}">'
    + "".join(f"<fx:{name}>{value}</fx:{name}>" for name, value in _PROPERTIES.items())
    + "</rdf:Description>"
)


def declared(pdf: bytes) -> bytes:
    """A PDF/A-3 with `ATTACHMENT` in it, as one whose metadata say what that is."""
    writer = PdfWriter(clone_from=io.BytesIO(pdf))
    metadata = cast("StreamObject", writer.root_object["/Metadata"])
    metadata.set_data(metadata.get_data().decode().replace(_END, _SCHEMA + _SAID + _END).encode())
    made = io.BytesIO()
    writer.write(made)
    return made.getvalue()
