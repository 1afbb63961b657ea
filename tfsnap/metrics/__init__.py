"""How good are the pictures?"""
