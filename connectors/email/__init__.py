"""The email connector: notices to people and short event mails to offices, through an SMTP relay."""

from connectors.email.connector import EmailConnector
from connectors.email.settings import EmailSettings, MailTemplate

__all__ = ["EmailConnector", "EmailSettings", "MailTemplate"]
