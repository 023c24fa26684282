"""DKIM by others, for the tests of our signatures.

`dkim_of_others.py keys`: private keys as PEM and the DNS records of their public halves, as JSON.
`dkim_of_others.py verify`: of JSON on stdin, {"mail": base64, "records": {name: text}}, what dkimpy says of
each signature, from the top: [{"valid": bool, "signed": [names], "algorithm": text}].
"""

import base64
import json
import sys

import dkim
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa


def pem(key, form):
    return key.private_bytes(s.Encoding.PEM, form, s.NoEncryption()).decode()


def keys():
    big = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    curve = ed25519.Ed25519PrivateKey.generate()
    spki = big.public_key().public_bytes(s.Encoding.DER, s.PublicFormat.SubjectPublicKeyInfo)
    raw = curve.public_key().public_bytes(s.Encoding.Raw, s.PublicFormat.Raw)
    return {
        "pkcs1": pem(big, s.PrivateFormat.TraditionalOpenSSL),
        "pkcs8": pem(big, s.PrivateFormat.PKCS8),
        "small": pem(small, s.PrivateFormat.PKCS8),
        "ed25519": pem(curve, s.PrivateFormat.PKCS8),
        "rsa_record": "v=DKIM1; k=rsa; p=" + base64.b64encode(spki).decode(),
        "ed25519_record": "v=DKIM1; k=ed25519; p=" + base64.b64encode(raw).decode(),
    }


def verify(asked):
    mail = base64.b64decode(asked["mail"])
    records = {name.encode(): text.encode() for name, text in asked["records"].items()}

    def look_up(name, timeout=5):
        return records.get(name.rstrip(b"."))

    found = []
    count = sum(name.lower() == b"dkim-signature" for name, _ in dkim.DKIM(mail).headers)
    for index in range(count):
        verifier = dkim.DKIM(mail)
        try:
            valid = verifier.verify(index, dnsfunc=look_up)
        except dkim.DKIMException as error:
            valid, error = False, error
            print(error, file=sys.stderr)
        fields = verifier.signature_fields
        found.append(
            {
                "valid": bool(valid),
                "signed": "".join(fields.get(b"h", b"").decode().split()).split(":"),
                "algorithm": fields.get(b"a", b"").decode(),
            }
        )
    return found


print(json.dumps(keys() if sys.argv[1] == "keys" else verify(json.load(sys.stdin))))
