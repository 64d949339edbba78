"""The main job, done by Debian's own gRPC and code from Debian's own generator. Prints one JSON object a step.

usage: foreign_client.py <folder of generated code> <server> <folder of certificates>
"""

import json
import os
import sys
import uuid

import grpc

generated, server, certificates = sys.argv[1:]
sys.path.insert(0, generated)
from cardex.v1 import audit_service_pb2, audit_service_pb2_grpc  # noqa: E402
from cardex.v1 import card_pb2, card_service_pb2, card_service_pb2_grpc  # noqa: E402
from cardex.v1 import reason_pb2, token_service_pb2, token_service_pb2_grpc  # noqa: E402
from google.rpc import error_details_pb2, status_pb2  # noqa: E402

PAN = "4111111111111111"
PAYMENT = token_service_pb2.PURPOSE_PAYMENT


def read(name):
    with open(os.path.join(certificates, name), "rb") as file:
        return file.read()


def connect(identity):
    pair = {"private_key": read(identity + ".key"), "certificate_chain": read(identity + ".pem")} if identity else {}
    return grpc.secure_channel(server, grpc.ssl_channel_credentials(read("ca.pem"), **pair))


def tell(step, **found):
    print(json.dumps({"step": step, **found}), flush=True)


def refusal(call, request):
    """Code, text and the details of google.rpc.Status, by the names of their types."""
    try:
        call(request, timeout=10)
    except grpc.RpcError as error:
        found = {"code": error.code().name, "details": {}}
        for key, value in error.trailing_metadata() or ():
            if key == "grpc-status-details-bin":
                for detail in status_pb2.Status.FromString(value).details:
                    name = detail.TypeName().rsplit(".", 1)[1]
                    message = getattr(error_details_pb2, name)()
                    assert detail.Unpack(message)
                    found["details"][name] = message
        return found
    raise AssertionError("the call succeeded")


def card(pan=PAN):
    return token_service_pb2.TokenizeRequest(request_id=str(uuid.uuid4()), pan=pan, expiry=card_pb2.Expiry(year=2035, month=12))


with connect("payment-gateway") as channel:
    tokens = token_service_pb2_grpc.TokenServiceStub(channel)
    request = card()
    stored = tokens.Tokenize(request, timeout=10)
    tell("tokenize", token=stored.token, index_code=stored.index_code, bin=stored.masked.bin, known=stored.card_known)
    tell("repeat", same=tokens.Tokenize(request, timeout=10) == stored)
    revealed = tokens.Detokenize(token_service_pb2.DetokenizeRequest(token=stored.token, purpose=PAYMENT), timeout=10)
    tell("detokenize", equal=revealed.pan == PAN, year=revealed.expiry.year)

    batch = tokens.BatchTokenize(token_service_pb2.BatchTokenizeRequest(requests=[card(), card("4111111111111112"), card()]), timeout=10)
    tell("batch", results=[each.WhichOneof("result") for each in batch.results], reason=reason_pb2.Reason.Name(batch.results[1].error.reason),
         fields=[violation.field for violation in batch.results[1].error.field_violations])
    items = [token_service_pb2.DetokenizeItem(token=each) for each in (stored.token, "tok_" + "a" * 32, batch.results[2].response.token)]
    back = tokens.BatchDetokenize(token_service_pb2.BatchDetokenizeRequest(purpose=PAYMENT, items=items), timeout=10)
    tell("batch back", results=[each.WhichOneof("result") for each in back.results], equal=[each.response.pan == PAN for each in back.results])

    bad = refusal(tokens.Tokenize, card("4111111111111112"))
    tell("bad field", code=bad["code"], reason=bad["details"]["ErrorInfo"].reason, domain=bad["details"]["ErrorInfo"].domain,
         fields=[violation.field for violation in bad["details"]["BadRequest"].field_violations])
    reused = card("5555555555554444")
    reused.request_id = request.request_id
    other = refusal(tokens.Tokenize, reused)
    tell("other request", code=other["code"], reason=other["details"]["ErrorInfo"].reason)

with connect("risk-system") as channel:
    cards = card_service_pb2_grpc.CardServiceStub(channel)
    answer = cards.GetCard(card_service_pb2.GetCardRequest(card=card_pb2.CardKey(token=stored.token)), timeout=10)
    tell("card", status=card_pb2.CardStatus.Name(answer.card.status), last_four=answer.card.masked.last_four, index_code=answer.card.index_code)
    denied = refusal(token_service_pb2_grpc.TokenServiceStub(channel).Detokenize, token_service_pb2.DetokenizeRequest(token=stored.token, purpose=PAYMENT))
    tell("denied", code=denied["code"], reason=denied["details"]["ErrorInfo"].reason)

with connect("auditor") as channel:
    lines, heads = [], []
    for message in audit_service_pb2_grpc.AuditServiceStub(channel).ExportEntries(audit_service_pb2.ExportEntriesRequest(), timeout=60):
        lines += message.lines
        heads += message.heads
    tell("export", entries=len(lines), heads=len(heads), names_token=sum(stored.token in line for line in lines), holds_pan=any(PAN in line for line in lines))

with connect(None) as channel:
    tell("no certificate", code=refusal(token_service_pb2_grpc.TokenServiceStub(channel).Tokenize, card())["code"])
