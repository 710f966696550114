"""Certificates that tests make with openssl: an authority, servers, clients; good ones and bad ones."""
import os
import subprocess


def openssl(*arguments):
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, f"openssl {' '.join(arguments)}\n{done.stderr}"
    return done.stdout


class Pair:
    def __init__(self, cert, key):
        self.cert, self.key = cert, key


class Authority:
    """A certificate authority in a directory; issues certificates for names."""

    def __init__(self, directory, name="ca"):
        self.directory = os.path.join(directory, name)
        os.makedirs(self.directory)
        self.cert, self.key = f"{self.directory}/ca.pem", f"{self.directory}/ca.key"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                "-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", self.key, "-out", self.cert)

    def issue(self, *names, file=None, key="ec", days=10, cn=None, uri=None):
        """`names`: DNS names or addresses. days < 0: expired."""
        base = os.path.join(self.directory, file or (names[0] if names else cn).replace("*", "any"))
        new = ["rsa:2048"] if key == "rsa" else ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        openssl("req", "-newkey", *new, "-nodes", "-subj", f"/CN={cn or (names[0] if names else 'client')}",
                "-keyout", f"{base}.key", "-out", f"{base}.csr")
        alternatives = [("IP:" if name.replace(".", "").isdigit() else "DNS:") + name for name in names]
        alternatives += [f"URI:{uri}"] if uri else []
        with open(f"{base}.ext", "w") as extensions:
            if alternatives:
                extensions.write("subjectAltName=" + ",".join(alternatives) + "\n")
        openssl("x509", "-req", "-in", f"{base}.csr", "-CA", self.cert, "-CAkey", self.key, "-CAcreateserial",
                "-days", str(days), "-extfile", f"{base}.ext", "-out", f"{base}.pem")
        return Pair(f"{base}.pem", f"{base}.key")
